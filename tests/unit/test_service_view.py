"""Files that systemd hides from a service are not just missing: whoever named them is told why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dms.service_view import hiding_hint

# As ProtectHome=yes and PrivateTmp=yes mount them: systemd.exec(5).
IN_PLACE = ("systemd/inaccessible/dir", "tmp/systemd-private-1-nunet-dms.service-2/tmp")
CALLS = (
    "from dms.application.files.user_files import Outbox, Reach; Outbox((), (), Path('/x')).check(path, Reach.DAEMONS)",
    "from dms.passphrase import Passphrase; Passphrase(path).read()",
    "from dms.adapters.http.tls import check_files; check_files(path, path)",
    "from dms.adapters.nats import connection as c; c.check(c.Nats(url='nats://x', token_file=str(path)))",
)


@pytest.mark.parametrize("shown", IN_PLACE)
@pytest.mark.parametrize("call", CALLS)
def test_who_names_a_hidden_file_is_told_so(tmp_path: Path, shown: str, call: str) -> None:
    home = tmp_path / "home of all"
    (home / "me").mkdir(parents=True)
    (home / "me" / "file").write_text("x")
    (tmp_path / shown).mkdir(parents=True)
    program = f"import sys; from pathlib import Path; path = Path(sys.argv[1]); {call}"
    mount = 'mount --bind "$2" "$2" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh",
         tmp_path / shown, home, sys.executable, "-c", program, home / "me" / "file"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"({home} is hidden from this service by systemd" in done.stderr


def test_what_is_only_missing_gets_no_hint(tmp_path: Path) -> None:
    assert hiding_hint(tmp_path / "missing") == ""
    assert hiding_hint(Path("\0")) == ""
