#!/usr/bin/env bash
# Installs the Debian package as dpkg does, runs it, upgrades, removes and purges it: in a throw-away copy of this
# machine's file system (an overlay), in which nothing of the real one changes. As root.
#
#   ops/check-deb.sh dist/nunet-dms_VERSION_ARCH.deb
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --inside ]; then
    [ "$(id -u)" -eq 0 ] || { echo "as root, please: it mounts and runs dpkg" >&2; exit 1; }
    deb=$(readlink -f "$1")
    lintian --fail-on error,warning --allow-root "$deb"
    exec unshare --mount --pid --net --fork --kill-child "$0" --inside "$deb"
fi

readonly deb=$2
readonly root=/mnt/root
step() { printf '== %s\n' "$*"; }
fail() { printf 'failed: %s\n' "$*" >&2; exit 1; }
within() { chroot $root "$@"; }
as_nunet() { within setpriv --reuid nunet --regid nunet --init-groups env -i PATH=/usr/bin:/bin HOME=/var/lib/nunet "$@"; }

mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work $root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work $root
mount -t proc none $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs none $root/tmp
mount -t tmpfs none $root/run
mkdir -p $root/var/lib/docker
mount -t tmpfs none $root/var/lib/docker # its layers can't lie on an overlay
mount --rbind /sys $root/sys
ip link set lo up
cp "$deb" $root/tmp/nunet-dms.deb
# Packages that are there already, such as Python, are those of this machine.
within apt-get -qq purge -y nunet-dms >/dev/null 2>&1 || true

step "unit, users and folders"
within dpkg --install /tmp/nunet-dms.deb >/mnt/dpkg.log 2>&1 || { cat /mnt/dpkg.log >&2; fail "it can't be installed"; }
within systemd-analyze verify --man=no /lib/systemd/system/nunet-dms.service 2>&1 | tee /mnt/verify.log
! grep -q nunet-dms /mnt/verify.log || fail "systemd finds fault with the unit"
within id -nG nunet | tr ' ' '\n' | grep -x docker >/dev/null || fail "user nunet is not in the group docker"
[ "$(within stat -c %U:%G:%a /var/lib/nunet)" = nunet:nunet:700 ] || fail "/var/lib/nunet is not nunet's own"
! within find /usr/lib/nunet-dms /etc/nunet -perm /022 ! -type l | grep . || fail "others may write there"
! within grep -rlI --include='*.cfg' --include='*.json' "$PWD\|/tmp/tmp" /usr/lib/nunet-dms \
    || fail "a path of the build is in the package"

step "the command"
within nunet --version
as_nunet nunet version -o json | grep -q '"nunet-dms"'
as_nunet nunet config check
within man --warnings -P cat nunet 2>&1 | grep -q 'job run' || fail "man nunet shows nothing"
within man --warnings -P cat nunet-dms.conf 2>&1 | grep -q funding_window || fail "man nunet-dms.conf shows nothing"
# shellcheck disable=SC2016  # that shell is to expand them
within bash -c '. /usr/share/bash-completion/completions/nunet; COMP_WORDS=(nunet job des); COMP_CWORD=2
    _nunet_completion nunet; [ "${COMPREPLY[*]}" = describe ]' || fail "bash completes nothing"
[ -f $root/usr/share/zsh/vendor-completions/_nunet ] && [ -f $root/usr/share/fish/vendor_completions.d/nunet.fish ]

step "the daemon, with the command line of the unit, as its user"
command=$(sed -n 's/^ExecStart=//p' $root/lib/systemd/system/nunet-dms.service)
start() {
    as_nunet sh -c "echo \$\$ >/tmp/daemon.pid; exec $command" >/mnt/daemon.log 2>&1 &
    daemon=$!
    for _ in $(seq 300); do
        as_nunet nunet peer self >/mnt/self 2>/dev/null && return
        kill -0 $daemon 2>/dev/null || break
        sleep 0.1
    done
    cat /mnt/daemon.log >&2
    fail "the daemon does not get ready"
}
stop() { kill "$(cat $root/tmp/daemon.pid)"; wait $daemon || fail "the daemon ended with $?"; }
start
cp /mnt/self /mnt/first
as_nunet /usr/lib/nunet-dms/bin/python -c '
import httpx
page = httpx.get("http://127.0.0.1:9999/dashboard/").raise_for_status()
assert "/dashboard/assets/main-" in page.text' || fail "the dashboards are missing"
memory=$(as_nunet /usr/lib/nunet-dms/bin/python -c 'import psutil; print(psutil.virtual_memory().total >> 21)')
cpu=$(as_nunet nunet -o json capacity --full | sed -n 's/.*"cpu_mhz": \([0-9]*\).*/\1/p' | head -1)
as_nunet nunet onboard --yes -m "$memory" -c $((cpu / 2)) -n nunet-test \
    -a addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw >/dev/null
stop
[ -s $root/var/lib/nunet/events.db ] || fail "the event log is not where the settings say"

step "an upgrade keeps data, identity and changed settings"
echo '// mine' >>$root/etc/nunet/dms_config.json
within gpasswd --delete nunet docker >/dev/null
within dpkg --install --force-confdef /tmp/nunet-dms.deb >/mnt/dpkg.log 2>&1 || { cat /mnt/dpkg.log >&2; exit 1; }
grep -q '// mine' $root/etc/nunet/dms_config.json || fail "the settings were overwritten"
! within id -nG nunet | tr ' ' '\n' | grep -x docker >/dev/null || fail "user nunet may talk to Docker again"
start
cmp /mnt/first /mnt/self || fail "the identity changed"
as_nunet nunet info | grep -q nunet-test || fail "the machine is no longer onboarded"
as_nunet nunet audit verify
stop

step "a configuration that can't be used ends it for good"
final=$(sed -n 's/^RestartPreventExitStatus=//p' $root/lib/systemd/system/nunet-dms.service)
echo '{"rest": {"port": "many"}}' >$root/tmp/broken.json
code=0
as_nunet nunet run --config /tmp/broken.json 2>/dev/null || code=$?
[[ " $final " == *" $code "* ]] || fail "it ends with $code, so systemd restarts it for ever"

step "a package for another Python says so"
dpkg-deb --raw-extract "$deb" /mnt/other
# shellcheck disable=SC2016  # the script's own
sed -i 's/"$here" != "[0-9.]*"/"$here" != "3.0"/; s/with Python [0-9.]*,/with Python 3.0,/' /mnt/other/DEBIAN/preinst
sed -i 's/^Version: .*/&+other/' /mnt/other/DEBIAN/control
rm -rf /mnt/other/usr
dpkg-deb --build /mnt/other $root/tmp/other.deb >/dev/null
! within dpkg --install /tmp/other.deb >/mnt/dpkg.log 2>&1 || fail "it was installed"
grep -q 'was built for a release with Python 3.0' /mnt/dpkg.log || { cat /mnt/dpkg.log >&2; fail "it does not say why not"; }
within nunet --version >/dev/null || fail "the refused upgrade broke what was there"

docker=no
if within sh -c 'command -v dockerd docker' >/dev/null; then
    step "jobs in Docker: one of this node, one of another"
    docker=yes
    within dockerd --iptables=false >/mnt/dockerd.log 2>&1 &
    engine=$!
    for _ in $(seq 300); do
        within docker version >/dev/null 2>&1 && break
        sleep 0.1
    done
    tar -c -C "$(dirname "$(readlink -f "$(command -v busybox)")")" busybox | within docker import - leave-test >/dev/null
    peer=$(sed -n 's/.*Peer: \([1-9A-HJ-NP-Za-km-z]*\).*/\1/p' $root/var/lib/nunet/node.key)
    job() { # $1: name; $2: the node it is of
        within docker run --detach --name "$1" --network none --label io.nunet.dms.managed=true \
            --label "io.nunet.dms.node_id=$2" leave-test /busybox sleep 900 >/dev/null
    }
    job ours "$peer"
    job others 12D3KooWanother
fi
running() { within docker ps --format '{{.Names}}' | sort | xargs; }

step "removing keeps data and settings, purging leaves nothing"
within dpkg --remove nunet-dms >/mnt/dpkg.log 2>&1
[ ! -e $root/usr/lib/nunet-dms ] || fail "files are left in /usr/lib/nunet-dms"
[ -s $root/var/lib/nunet/events.db ] && [ -s $root/var/lib/nunet/node.key ] && [ -s $root/etc/nunet/dms_config.json ]
[ $docker = no ] || [ "$(running)" = others ] || fail "these jobs run, and nobody enforces their limits: $(running)"
within dpkg --purge nunet-dms >/mnt/dpkg.log 2>&1
[ $docker = no ] || [ "$(within docker ps --all --format '{{.Names}}')" = others ] || fail "a container is left"
! within id nunet | grep -q docker || fail "user nunet is still in a group that may talk to Docker"
[ ! -e $root/var/lib/nunet ] || fail "data are left in /var/lib/nunet"
[ ! -e $root/etc/nunet ] || fail "settings are left in /etc/nunet"
if [ $docker = yes ]; then # so that no control group is left
    within docker rm --force others >/dev/null
    kill "$engine"
    wait "$engine" || true
fi
step "all is well"
