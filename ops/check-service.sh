#!/usr/bin/env bash
# Runs jobs by the packaged service as systemd runs it: as user nunet, under all of the unit's sandbox, in a container of
# systemd-nspawn, with a Docker daemon and a network of its own. Two instances of the service, one of which asks for jobs
# and one of which runs them: a job with an input, a checkpoint and results; one that fetches from the internet, which is a
# network namespace here; large results, whose requester is killed at half; and a provider that can't give the internet.
# A package of another release only has to say why it can't be installed.
#
#   ops/check-service.sh dist/nunet-dms_VERSION_ARCH.deb [RELEASE [MB]]    as root; needs the package registries
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" -eq 0 ] || { echo "as root, please: it makes roots and namespaces" >&2; exit 1; }
for tool in debootstrap systemd-nspawn nsenter dockerd docker iptables ip busybox; do
    command -v $tool >/dev/null || {
        echo "$tool is missing: apt-get install debootstrap systemd-container docker.io iptables iproute2 busybox-static" >&2
        exit 1
    }
done
[ -x .venv/bin/python ] || { echo "there is no .venv here: make setup" >&2; exit 1; }
deb=$(readlink -f "$1")
readonly deb release=${2:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)} megabytes=${3:-64}
readonly group=nunet-check-$$ image=dms-test/shell:latest
readonly public=203.0.113.10 lan=10.99.7.10 resolver=10.99.7.53 # of tests/fixtures/public_internet.py
work=$(mktemp -d /var/tmp/nunet-service-XXXXXX)
readonly work root=$work/root

step() { printf '== %s (%s s)\n' "$*" $SECONDS; }
fail() { printf 'failed: %s\n' "$*" >&2; within journalctl --no-pager -n 40 -u 'nunet-dms*' >&2 || true; exit 1; }
within() { nsenter -t "$leader" -m -u -i -n -p -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"; }
requester() { within nunet --config /etc/nunet/requester.json "$@"; }
provider() { within nunet --config /etc/nunet/dms_config.json "$@"; }
until_it() { local _; for _ in $(seq 1200); do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.5; done; fail "never: $*"; }

clean() {
    local each
    [ -z "${nspawn:-}" ] || { kill -TERM "$nspawn" 2>/dev/null && wait "$nspawn"; } || true
    if [ -n "${engine:-}" ]; then
        docker_of_its_own ps -aq | xargs -r docker -H "unix://$work/run/docker.sock" rm -f >/dev/null || true
        kill "$(cat "$work/run/pid")" # unshare itself would not hear of it
        wait "$engine" || true
    fi
    [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
    ip netns del "$group" 2>/dev/null || true
    ip netns del "$group-public" 2>/dev/null || true
    sleep 1
    for each in /sys/fs/cgroup/*/"$group" /sys/fs/cgroup/"$group"; do
        find "$each" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf --one-file-system "$work"
}
trap clean EXIT

docker_of_its_own() { docker -H "unix://$work/run/docker.sock" "$@"; }

make_root() {
    step "a minimal $release with systemd"
    local archive
    # shellcheck disable=SC2016  # they are apt's
    archive=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' | sed -n 's/^Debian //p' | sed -n 1p)
    # What the package depends on and recommends, but for the engine, which is this machine's.
    unshare --mount debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3,busybox-static,iptables,adduser \
        "$release" "$root" "$archive" >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    cp "$deb" "$root/tmp/nunet-dms.deb"
}

of_this_release() { # whether the package was built for the root's Python
    local python
    python=$(chroot "$root" /usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    dpkg-deb --field "$deb" Depends | grep -qF "python3 (>= $python~)"
}

refused() {
    step "a package for another release says so"
    ! chroot "$root" dpkg --install /tmp/nunet-dms.deb >"$work/dpkg.log" 2>&1 || fail "it was installed"
    grep 'nunet-dms: this package was built for a release with Python' "$work/dpkg.log" || { cat "$work/dpkg.log" >&2; exit 1; }
}

install() {
    chroot "$root" dpkg --install /tmp/nunet-dms.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; exit 1; }
    settings dms_config.json nunet 9999 9000 ""
    mkdir -p "$root/var/lib/inputs"
    echo "digit,label" >"$root/var/lib/inputs/labels.csv"
}

make_network() { # of the machine, and one that stands for the internet and a LAN, of which only this knows
    step "a network of its own"
    local address
    ip netns add "$group"
    ip netns add "$group-public"
    ip -n "$group" link add uplink type veth peer name inner netns "$group-public"
    ip -n "$group" link set lo up
    ip -n "$group" link set uplink up
    ip -n "$group" address add 203.0.113.100/32 dev uplink
    ip -n "$group" route add default dev uplink
    ip -n "$group-public" link set lo up
    ip -n "$group-public" link set inner up
    for address in $public $lan $resolver; do ip -n "$group-public" address add "$address/32" dev inner; done
    ip -n "$group-public" route add default dev inner
    echo "nameserver $resolver" >"$root/etc/resolv.conf"
    nsenter --net="/run/netns/$group-public" .venv/bin/python tests/fixtures/public_server.py model.example=$public -- $resolver \
        >"$work/public.log" 2>&1 &
    server=$!
    until grep -q ready "$work/public.log"; do kill -0 $server; sleep 0.2; done
}

settings() { # $1: file; $2: folder; $3, $4: ports; $5: the peer to meet first
    cat >"$root/etc/nunet/$1" <<END
{
  "general": {"work_dir": "/var/lib/$2", "data_dir": "/var/lib/$2"}, "rest": {"port": $3},
  "p2p": {"listen_address": ["/ip4/127.0.0.1/tcp/$4"], "mdns": false, "bootstrap_peers": [${5:+\"$5\"}]},
  "job": {"log_update_interval": 0.1, "checkpoint_max_mb": 32}
}
END
}

start_engine() {
    step "a Docker daemon of its own"
    mkdir "$work/run"
    nsenter --net="/run/netns/$group" unshare --mount --fork --kill-child dockerd --host "unix://$work/run/docker.sock" \
        --data-root "$work/docker" --exec-root "$work/run/exec" --pidfile "$work/run/pid" \
        --group "$(chroot "$root" getent group docker | cut -d: -f3)" >"$work/dockerd.log" 2>&1 &
    engine=$!
    until docker_of_its_own version >/dev/null 2>&1; do kill -0 $engine; sleep 0.2; done
    .venv/bin/python -m ops.demo_image
    docker save "$image" | docker_of_its_own load >/dev/null
}

boot() {
    step "booting"
    local each
    (
        for each in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
            each=$(dirname "$each")
            [ -f "$each/cgroup.procs" ] || continue
            mkdir -p "$each/$group"
            [ ! -f "$each/cpuset.cpus" ] || for file in cpuset.cpus cpuset.mems; do cat "$each/$file" >"$each/$group/$file"; done
            echo $BASHPID >"$each/$group/cgroup.procs"
        done
        exec systemd-nspawn --quiet --directory "$root" --boot --register=no --keep-unit --console=pipe \
            --network-namespace-path="/run/netns/$group" --resolv-conf=off --bind="$work/run/docker.sock:/run/docker.sock" </dev/null
    ) >"$work/boot.log" 2>&1 &
    nspawn=$!
    until leader=$(pgrep -P $nspawn) && [ -n "$leader" ]; do kill -0 $nspawn || { cat "$work/boot.log" >&2; exit 1; }; sleep 0.2; done
    until_it within systemctl is-active nunet-dms
    until_it provider peer self
}

start_requester() {
    step "a second instance of the unit"
    settings requester.json nunet-requester 9998 9100 "$(provider -o json peer self | grep -o '/ip4/127.0.0.1/tcp/9000/p2p/[^"]*' | sed -n 1p)"
    sed 's,dms_config,requester,; s,=nunet$,=nunet-requester,; s,^User=.*,User=nunet,' "$root/lib/systemd/system/nunet-dms.service" \
        >"$root/etc/systemd/system/nunet-requester.service"
    within systemctl daemon-reload
    within systemctl start nunet-requester
    provider onboard --yes -m 80% -c 80% -n nunet-test -a addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw >/dev/null
    until_it sh -c "$(declare -f within requester); leader=$leader; requester peer list | grep -q provider"
    local unit
    for unit in nunet-dms nunet-requester; do
        within systemctl show "$unit" -p User -p CapabilityBoundingSet -p NoNewPrivileges -p ProtectSystem | xargs
        within sh -c "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/\$(systemctl show $unit -p MainPID --value)/status" | xargs
        within systemd-analyze security "$unit" | sed -n 's/.*Overall/Overall/p'
    done
}

run_job() {
    step "a job with an input, a checkpoint and results"
    # shellcheck disable=SC2016  # the container's shell is to expand them
    requester job run --image "$image" --cpu 300 --ram 64 --time 5m --input file:/var/lib/inputs/labels.csv --trust --wait -- \
        'cd /workspace; cat labels.csv; mkdir results; for i in 1 2 3; do echo $i >epoch; sleep 5; done; cp labels.csv results/model' \
        2>"$work/job.err" | tee "$work/job.out" || { cat "$work/job.err" >&2; fail "the job"; }
    grep -q digit,label "$work/job.out"
    within sh -c 'cd /srv && nunet --config /etc/nunet/requester.json job results @last -d out'
    cmp "$root/srv/out/results/model" "$root/var/lib/inputs/labels.csv" || fail "the results are not what the job left"
    requester checkpoint list | grep -q . || fail "there is no checkpoint"
    requester job verify @last
}

run_with_internet() {
    step "a job that fetches from the internet"
    until_it gives internet
    nsenter --net="/run/netns/$group" busybox wget -q -O - "http://$lan/" >/dev/null || fail "the LAN does not answer this machine either"
    requester job run --image "$image" --cpu 300 --ram 64 --time 5m --network internet --trust --wait -- \
        "wget -q -O - http://model.example/model && ! wget -q -T 5 -O - http://$lan/" \
        >"$work/job.out" 2>"$work/job.err" || { cat "$work/job.out" "$work/job.err" >&2; fail "the job"; }
    [ "$(tr -d '\r' <"$work/job.out")" = weights ] || { cat "$work/job.out" "$work/job.err" >&2; fail "it fetched something else"; }
}

gives() { provider -o json device status | grep -Eq "\"network\": ?\"$1\""; }

refuse_internet() { # iptables is only recommended
    step "without iptables: the job is refused before anything is paid, and the provider says why"
    chroot "$root" dpkg --remove iptables >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; exit 1; }
    within systemctl restart nunet-dms
    until_it gives none
    provider device status 2>&1 | tee "$work/status"
    grep -q 'iptables-restore is not installed' "$work/status" || fail "the provider does not say why"
    local code=0
    requester job run --image "$image" --network internet --trust --wait -- true 2>&1 | tee "$work/job.err" || code=${PIPESTATUS[0]}
    [ "$code" -ne 0 ] || fail "it was not refused"
    grep -q 'no internet' "$work/job.err" || fail "it was refused for something else"
}

here() { # until they are, the files of the newest checkpoint are listed, and said to be such
    requester job results @last --list >"$work/listed" 2>&1 && grep -q results/model "$work/listed" && ! grep -q checkpoint "$work/listed"
}

run_large() {
    step "$megabytes MB of results, their requester killed at half"
    local folder=$root/var/lib/nunet-requester/received_results half=$((megabytes << 19)) size=0 before client
    before=$(archives "$folder")
    requester job run --image "$image" --cpu 1000 --ram $((2 * megabytes + 200)) --time 10m --trust --wait -- \
        "cd /workspace; mkdir results; head -c $((megabytes << 20)) /dev/urandom >results/model; sha256sum results/model | cut -d' ' -f1" \
        >"$work/large.out" 2>"$work/large.err" &
    client=$!
    until [ "$size" -ge "$half" ] || [ "$(archives "$folder")" -gt "$before" ]; do
        size=$(find "$folder" -name '*.part' -printf '%s\n' 2>/dev/null | sed -n 1p)
        size=${size:-0}
        kill -0 $client 2>/dev/null || ! grep -q '^error' "$work/large.err" || { cat "$work/large.err" >&2; fail "the large job"; }
    done
    within systemctl kill --kill-whom=main --signal=KILL nunet-requester
    step "killed with $size bytes of them here"
    [ "$size" -ge "$half" ] || fail "they had all come before"
    wait $client || true # it may have been told the end before
    until_it here
    within sh -c 'cd /srv && nunet --config /etc/nunet/requester.json job results @last -d large'
    sha256sum "$root/srv/large/results/model"
    [ "$(sha256sum <"$root/srv/large/results/model" | cut -d' ' -f1)" = "$(requester job logs @last | tr -d '\r\n')" ] || fail "other bytes came back"
}

archives() { find "$1" -maxdepth 1 -name '*.tar.gz' 2>/dev/null | wc -l; }

make_root
of_this_release || { refused; exit; }
install
make_network
start_engine
boot
start_requester
run_job
run_with_internet
run_large
refuse_internet
step "all is well"
