"""The Node packages of the dashboards: locked, few in the bundle, under licences that may be passed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FREE = {"MIT", "ISC", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "MPL-2.0", "PSF-2.0", "Python-2.0"} | {
    "(MIT OR CC0-1.0)"
}
BUNDLED = {"preact", "@preact/signals", "@preact/signals-core", "uplot"}
BUILDER = "esbuild"


def packages() -> dict[str, dict[str, Any]]:
    """By name; a package that is there twice counts once for each place."""
    found = json.loads((ROOT / "dashboard" / "package-lock.json").read_text())["packages"]
    return {path.removeprefix("node_modules/"): entry for path, entry in found.items() if path}


def test_each_package_is_locked_with_its_digest() -> None:
    assert [name for name, entry in packages().items() if not entry["integrity"].startswith("sha512-")] == []


def test_the_lock_names_no_registry() -> None:
    assert [name for name, entry in packages().items() if "resolved" in entry] == []


def test_licences_may_be_passed_on() -> None:
    other = {name: entry.get("license") for name, entry in packages().items() if entry.get("license") not in FREE}
    assert other == {}


def test_the_bundle_is_made_of_what_the_page_on_it_lists() -> None:
    needed = {
        name for name, entry in packages().items() if not entry.get("dev") and not entry.get("optional")
    }  # what is optional is esbuild for other machines
    assert needed == BUNDLED | {BUILDER}
    page = (ROOT / "docs" / "dashboard.md").read_text()
    assert [name for name in BUNDLED if name not in page] == []


def test_versions_are_exact() -> None:
    project = json.loads((ROOT / "dashboard" / "package.json").read_text())
    wanted = project["dependencies"] | project["devDependencies"]
    assert [name for name, version in wanted.items() if not version[0].isdigit()] == []
