"""The lock files fit pyproject.toml, each other, and what the libraries themselves ask for."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ops.pip_settings import as_uv

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OVERRIDES = {r.name: r for r in map(Requirement, PROJECT["tool"]["uv"]["override-dependencies"])}
ENTRY = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+).*(?:\n .*)*", re.MULTILINE)


def entries(name: str) -> dict[str, str]:
    """Of each package its whole entry: version, marker, hashes."""
    return {canonicalize_name(m[1]): m[0] for m in ENTRY.finditer((ROOT / name).read_text())}


PYTHONS = 4  # from 3.11 on; each has wheels of its own
ALL, RUN = entries("requirements.lock"), entries("requirements-run.lock")


def version_of(entry: str) -> str:
    found = ENTRY.match(entry)
    assert found is not None
    return found[2]


def needed(names: list[str]) -> dict[str, list[Requirement]]:
    """Whatever they need on this machine, by name, as each asks for it."""
    found: dict[str, list[Requirement]] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        need = waiting.pop()
        if need.marker is not None and not any(need.marker.evaluate({"extra": e}) for e in need.extras or {""}):
            continue
        known = found.setdefault(canonicalize_name(need.name), [])
        if str(need) not in map(str, known):
            known.append(need)
            waiting += [part for text in _requires(need.name) if (part := wanted_by(need, text)) is not None]
    return found


def wanted_by(need: Requirement, text: str) -> Requirement | None:
    part = Requirement(text)
    wanted = part.marker is None or any(part.marker.evaluate({"extra": extra}) for extra in need.extras or {""})
    part.marker = None
    return part if wanted else None


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        pytest.fail(f"{name} is not installed: run `ops/setup.sh venv`")


@pytest.mark.parametrize(
    ("lock", "extras"), [(RUN, []), (ALL, ["otel", "test"])], ids=["requirements-run.lock", "requirements.lock"]
)
def test_a_lock_has_just_what_is_asked_for_in_a_version_that_is_asked_for(
    lock: dict[str, str], extras: list[str]
) -> None:
    project = PROJECT["project"]
    asked = needed(project["dependencies"] + [d for e in extras for d in project["optional-dependencies"][e]])
    assert set(asked) <= set(lock), "run `make lock`"
    for name, needs in asked.items():
        for need in [OVERRIDES[name]] if name in OVERRIDES else needs:
            assert need.specifier.contains(version_of(lock[name]), prereleases=True), f"{need}: {lock[name][:60]}"


def test_the_program_runs_with_the_versions_that_the_tests_run_with() -> None:
    assert RUN.items() <= ALL.items()
    assert all("--hash=sha256:" in entry for entry in ALL.values())


@pytest.mark.slow
def test_what_is_overridden_is_used_by_no_module_that_we_use() -> None:
    """libp2p works with fastecdsa 4 as far as imports go; its P-256 keys and SECIO would not."""
    assert set(OVERRIDES) == {"fastecdsa"}
    spec = find_spec("libp2p")
    assert spec is not None
    assert spec.submodule_search_locations
    library = Path(spec.submodule_search_locations[0])
    unusable = {"fastecdsa"}
    users: set[str] = set()
    while True:  # whoever imports one of them is one of them, but for the package's own __init__
        more = {
            ".".join(("libp2p", *file.relative_to(library).with_suffix("").parts))
            for file in library.rglob("*.py")
            if file != library / "__init__.py" and any(imports(file, name) for name in unusable)
        }
        if more <= users:
            break
        users |= more
        unusable |= more
    assert users == {"libp2p.crypto.ecc", "libp2p.crypto.key_exchange", "libp2p.security.secio.transport"}
    ours = [file for folder in ("dms", "projections") for file in (ROOT / folder).rglob("*.py")]
    assert not [file for file in ours if any(imports(file, name) for name in unusable)]
    # What would make a host that speaks SECIO.
    assert not [file for file in ours if re.search(r"\bnew_host\(|\bnew_swarm\(", file.read_text())]


def imports(file: Path, module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in imported(file))


@cache
def imported(file: Path) -> frozenset[str]:
    nodes = list(ast.walk(ast.parse(file.read_bytes())))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return frozenset(plain | {f"{node.module}.{alias.name}" for node in froms for alias in node.names})


def test_uv_is_told_what_pip_is_set_up_with(tmp_path: Path) -> None:
    there, gone = tmp_path, tmp_path / "gone"
    listed = "\n".join(
        [
            ":env:.index-url='https://b.example/simple'",  # sorted as pip prints it; the environment counts more
            "global.index-url='https://a.example/simple'",
            rf"global.extra-index-url='\nhttps://c.example/simple\nfile://{there}\nfile://{gone}'",
            f":env:.find-links='{gone}'",  # pip goes on without it, uv would end
            f"global.cert='{there}'",
            "install.trusted-host='a.example'",
            "download.index-url='https://not.example'",
            "global.constraint='/etc/constraints.txt'",
        ]
    )
    assert as_uv(listed, {"SSL_CERT_FILE": "/etc/two.pem"}) == {
        "UV_DEFAULT_INDEX": "https://b.example/simple",
        "UV_INDEX": f"https://c.example/simple file://{there}",
        "UV_INSECURE_HOST": "a.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert as_uv("", {}) == {}


@pytest.mark.parametrize("name", ["numpy", "scipy", "scikit-learn"])
def test_the_lock_of_the_training_has_the_wheels_of_every_python(name: str) -> None:
    """Not just those of the machine that made it."""
    found = re.findall(rf"^{name}==.*(?:\n .*)*", (ROOT / "ops/demo_ml/requirements.lock").read_text(), re.MULTILINE)
    assert found
    assert [entry for entry in found if entry.count("--hash=") < PYTHONS] == []
