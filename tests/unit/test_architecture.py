"""Imports point inward (domain <- application <- adapters <- bootstrap), and nothing is in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ("dms.errors", "dms.backoff", "dms.plain_words")  # any layer may try again, raise errors, and word them

# What each layer may import of ours; the longest name that fits a module decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "dms.errors": (),
    "dms.backoff": (),
    "dms.durations": (),
    "dms.locked_files": (),
    "dms.long_work": (),
    "dms.lookups": ("dms.outside_calls", "dms.recent"),
    "dms.outside_calls": (),
    "dms.recent": (),
    "dms.struct_types": (),
    "dms.config": ("dms.config", "dms.config_json", "dms.durations", "dms.json_schema"),
    "dms.config_json": ("dms.masking",),
    "dms.masking": (),
    "dms.database": ("dms.locked_files",),
    "dms.disk": (),
    "dms.operators": ("dms.outside_calls",),
    "dms.service_view": (),
    "dms.socket_owner": (),
    "dms.key_file": ("dms.disk", "dms.service_view"),
    "dms.passphrase": ("dms.config", "dms.key_file", "dms.service_view"),
    "dms.json_schema": (),
    "dms.plain_words": ("dms.json_schema",),
    "dms.clock": ("dms.domain",),
    "dms.domain": ("dms.domain",),
    "dms.application": (
        "dms.application",
        "dms.domain",
        "dms.config",
        "dms.disk",
        "dms.json_schema",
        "dms.locked_files",
        "dms.long_work",
        "dms.outside_calls",
        "dms.recent",
        "dms.service_view",
    ),
    "projections": ("projections", "dms.domain"),
    "dms.adapters": (
        "dms.application",
        "dms.domain",
        "dms.clock",
        "dms.config",
        "dms.database",
        "dms.disk",
        "dms.json_schema",
        "dms.key_file",
        "dms.locked_files",
        "dms.long_work",
        "dms.lookups",
        "dms.operators",
        "dms.passphrase",
        "dms.recent",
        "dms.service_view",
        "dms.socket_owner",
        "dms.struct_types",
        "projections",
    ),  # and its own package
}
WIRING = (
    "dms.bootstrap",
    "dms.wiring",
    "dms.daemon",
    "dms.keys",
    "dms.offline",
    "dms.process",
    "dms.cli",
    "dms.__main__",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for top in ("dms", "projections") for path in sorted((ROOT / top).rglob("*.py"))}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(body: list[ast.stmt], *, for_types: bool) -> Iterator[ast.stmt]:
    """All statements, also those of functions; for_types: and those that only a type checker reads."""
    for node in body:
        yield node
        if not for_types and only_for_types(node):
            continue
        for inner in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, inner, []), for_types=for_types)
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body, for_types=for_types)
        for case in getattr(node, "cases", []):
            yield from statements(case.body, for_types=for_types)


@cache
def imports(module: str, *, for_types: bool = True) -> frozenset[str]:
    """The modules of ours that it names: `from a import b` counts as a.b where that is a module."""
    found: set[str] = set()
    for node in statements(ast.parse(MODULES[module].read_text()).body, for_types=for_types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return frozenset(name for name in found if name.split(".")[0] in ("dms", "projections", "ops", "tests"))


def adapter_package(module: str) -> str | None:
    """dms.adapters.p2p for dms.adapters.p2p.runtime."""
    parts = module.split(".")
    return ".".join(parts[:3]) if parts[:2] == ["dms", "adapters"] and len(parts) > 2 else None


def may_import(module: str) -> tuple[str, ...]:
    layer = max((name for name in ALLOWED if is_within(module, name)), key=len)
    own = adapter_package(module)
    return (*ALLOWED[layer], *SHARED, *([own] if own else []))


LAYERED = [name for name in MODULES if any(is_within(name, layer) for layer in ALLOWED)]


@pytest.mark.parametrize("module", LAYERED)
def test_a_module_imports_only_what_lies_further_in(module: str) -> None:
    allowed = may_import(module)
    outward = {name for name in imports(module) if not any(is_within(name, package) for package in allowed)}
    assert not outward, f"{module} may import only {', '.join(allowed)} of ours"


def test_every_module_has_a_layer_or_is_wiring() -> None:
    known = {"dms", "dms.adapters", *LAYERED}
    stray = {name for name in MODULES if name not in known and not any(is_within(name, w) for w in WIRING)}
    assert not stray


def test_only_the_wiring_knows_concrete_adapters() -> None:
    others = {
        (module, name)
        for module in MODULES
        for name in imports(module)
        if adapter_package(name)
        and adapter_package(module) != adapter_package(name)
        and not any(is_within(module, wiring) for wiring in WIRING)
    }
    assert not others


def test_the_program_never_imports_its_tests_or_tools() -> None:
    assert not {
        (module, name) for module in MODULES for name in imports(module) if name.split(".")[0] in ("ops", "tests")
    }


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not by imports inside functions: they only put the circle off."""
    graph = {module: imports(module, for_types=False) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


LONGEST_CLASS = 300
LONGEST_FUNCTION = 60  # lines


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, lines) of each, those inside others too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{module}.{name}: {lines} lines"
        for module, path in MODULES.items()
        for name, lines in functions(ast.parse(path.read_text()))
        if lines > LONGEST_FUNCTION
    }
    assert not long


def classes(module: str) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.ClassDef))


def test_no_class_is_so_long_that_it_is_two() -> None:
    long = {
        f"{module}.{found.name}: {lines} lines"
        for module in MODULES
        for found in classes(module)
        if (lines := (found.end_lineno or found.lineno) - found.lineno + 1) > LONGEST_CLASS
    }
    assert not long


def test_what_cannot_be_done_is_given_up_by_each_reactor_that_leaves_an_event() -> None:
    """Or it says who does it in its place."""
    silent = {
        f"{module}.{found.name}"
        for module, path in MODULES.items()
        if "Reactor[" in path.read_text()
        for found in classes(module)
        if any(ast.unparse(base).startswith("Reactor[") for base in found.bases)
        and "recorded = False" not in map(ast.unparse, found.body)
        and "give_up" not in {part.name for part in found.body if isinstance(part, ast.AsyncFunctionDef)}
    }
    assert not silent


# --- tasks ---------------------------------------------------------------------------------------
WAITED_FOR = "whoever begins it waits for its result, or for its end, in the same call"
SHARED_BY = "those who ask at the same time wait for it together"
TASKS: dict[tuple[str, str], str] = {
    ("dms.application.loops", "Loop.__init__"): "looks after all long-lived loops",
    ("dms.application.reactors", "Reaction._look"): "begins again by itself, and logs, until nothing is due",
    ("dms.application.reactors", "News.during"): WAITED_FOR,
    ("dms.application.tasks", "background"): "logs what ends it",
    ("dms.process", "started"): WAITED_FOR,
    ("dms.application.network.chats", "Chats.start"): WAITED_FOR,
    ("dms.application.tasks", "either"): WAITED_FOR,
    ("dms.application.deployments.deployment_feed", "DeploymentFeed.items"): WAITED_FOR,
    ("dms.application.deployments.deployment_feed", "DeploymentFeed._more_output"): WAITED_FOR,
    ("dms.application.deployments.supervision", "Supervision._following"): WAITED_FOR,
    ("dms.application.deployments.usage", "_Gpus.read"): SHARED_BY,
    ("dms.application.device.engine", "EngineWatch.ping"): SHARED_BY,
    ("dms.application.device.sandbox", "SandboxWatch.trial"): SHARED_BY,
    ("dms.application.jobs.provider_search", "ProviderSearch._ping"): SHARED_BY,
    ("dms.application.jobs.follow_deployments", "FollowDeployments.react"): WAITED_FOR,
    ("dms.adapters.executors.engine_disk", "while_there_is_room"): WAITED_FOR,
    ("dms.adapters.executors.engine_attach", "_lines"): WAITED_FOR,
    ("dms.adapters.executors.engine_images", "EngineImages.pull"): WAITED_FOR,
    ("dms.adapters.executors.tries", "Tries.result"): "goes on when nobody waits, until `close`",
    ("dms.adapters.executors.engine_memory", "EngineMemory.listen"): "begins again by itself, and logs, until `close`",
    ("dms.adapters.http.conversation", "Conversation.run"): "closes its socket with a word, whatever ends it",
    ("dms.adapters.http.events", "_with_pauses"): WAITED_FOR,
    ("dms.application.jobs.job_outputs", "JobOutputs.changed"): WAITED_FOR,
    ("dms.adapters.http.sockets", "Sockets.close"): WAITED_FOR,
    ("dms.adapters.nats.relay", "NatsRelay._session"): WAITED_FOR,
    ("dms.adapters.p2p.exchange", "consume"): WAITED_FOR,
    ("dms.adapters.views.sqlite", "SQLiteViews._follow_until_damaged"): WAITED_FOR,
    ("dms.adapters.p2p.runtime", "TrioThread.ask.begin"): WAITED_FOR,
}
BEGIN_A_TASK = ("create_task", "ensure_future")


def begun_tasks(body: list[ast.stmt], within: tuple[str, ...] = ()) -> Iterator[str]:
    """Qualified names of the functions that begin a task of asyncio's."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from begun_tasks(node.body, (*within, node.name))
            continue
        inner = [s for name in ("body", "orelse", "finalbody") for s in getattr(node, name, [])]
        inner += [s for handler in getattr(node, "handlers", []) for s in handler.body]
        yield from begun_tasks(inner, within)
        own = {id(part) for one in inner for part in ast.walk(one)}
        for call in ast.walk(node):
            if id(call) not in own and isinstance(call, ast.Attribute) and call.attr in BEGIN_A_TASK:
                yield ".".join(within)


def test_long_lived_tasks_are_all_looked_after() -> None:
    """What must go on is a loop of `Loops`; what has an end and is waited for by nobody is a `background` task."""
    found = {
        (module, where) for module, path in MODULES.items() for where in begun_tasks(ast.parse(path.read_text()).body)
    }
    assert not found - TASKS.keys(), "a task that dies here is missed by nobody: see dms/application/loops.py, tasks.py"
    assert not TASKS.keys() - found, "no task is begun here any more"


def test_the_rules_would_catch_a_task_that_nobody_looks_after() -> None:
    source = """
class Watch:
    def start(self):
        if True:
            self._task = asyncio.create_task(self._run())
    def other(self):
        def inner():
            return [asyncio.ensure_future(x) for x in self.all]
"""
    assert list(begun_tasks(ast.parse(source).body)) == ["Watch.start", "Watch.other.inner"]


def calls_to_connect(path: Path) -> set[str]:
    """The calls of `sqlite3.connect` (by that or any other name) in a file."""
    if "sqlite3" not in (source := path.read_text()):
        return set()
    tree = ast.parse(source)
    names = {"sqlite3.connect", "sqlite3.dbapi2.connect", "sqlite3.Connection"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("sqlite3", "sqlite3.dbapi2"):
            names |= {alias.asname or alias.name for alias in node.names if alias.name in ("connect", "Connection")}
        elif isinstance(node, ast.Import):
            names |= {f"{a.asname}.connect" for a in node.names if a.name == "sqlite3" and a.asname}
    return {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in names
    }


def test_only_one_module_opens_sqlite_databases() -> None:
    """Any other way forgets something: quoting in the URI, the file's mode, a medium that can't be written."""
    ours = [path for top in ("dms", "projections", "ops") for path in sorted((ROOT / top).rglob("*.py"))]
    found = {str(path.relative_to(ROOT)): calls for path in ours if (calls := calls_to_connect(path))}
    assert set(found) == {"dms/database.py"}


LOG = "dms.adapters.eventlog"
OF_ONE_DATABASE = "sqlite"  # what a module of the log that knows it is named after
PUT_TOGETHER = f"{LOG}.log"  # the log on that database


def knows_the_database(source: str) -> set[str]:
    """What a module above the recorder's seam must not name."""
    tree = ast.parse(source)
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = (f"{LOG}.{OF_ONE_DATABASE}", "dms.database")
    return {name for name in found if name.split(".")[0] == "sqlite3" or name.startswith(ours)}


def test_above_the_recorders_seam_nothing_knows_the_database() -> None:
    """So that another one is put in below it: its errors, its rows and its files are not met anywhere else."""
    above = [m for m in MODULES if is_within(m, LOG) and not m.startswith(f"{LOG}.{OF_ONE_DATABASE}")]
    at_the_edge = ("dms.cli", "dms.keys", "dms.bootstrap", "dms.wiring", "dms.daemon")
    users = [module for module in MODULES if any(is_within(module, place) for place in at_the_edge)]
    knowing = {module: knows_the_database(MODULES[module].read_text()) for module in above if module != PUT_TOGETHER}
    knowing |= {m: {name for name in knows_the_database(MODULES[m].read_text()) if name == "sqlite3"} for m in users}
    assert {module: names for module, names in knowing.items() if names} == {}


def test_the_rule_would_catch_a_module_that_knows_the_database() -> None:
    assert knows_the_database("import sqlite3") == {"sqlite3"}
    assert knows_the_database("def f():\n    from dms.adapters.eventlog.sqlite_names import NewNames")
    assert not knows_the_database("from dms.adapters.eventlog.recorder import LogRecorder")


def test_the_rules_would_catch_an_outward_import() -> None:
    assert "dms.application" not in may_import("dms.domain.job")
    assert "dms.adapters.http" not in may_import("dms.adapters.p2p.runtime")
    assert "dms.adapters.p2p" in may_import("dms.adapters.p2p.runtime")
    assert not any(is_within("dms.adapters", package) for package in may_import("projections.jobs"))


def test_the_rules_see_an_import_that_a_function_puts_off() -> None:
    body = ast.parse(
        "def later():\n    if True:\n        from dms import config\nif TYPE_CHECKING:\n    import dms.errors"
    )
    found = [ast.unparse(node) for node in statements(body.body, for_types=False)]
    assert "from dms import config" in found
    assert "import dms.errors" not in found


def test_the_page_for_newcomers_names_what_is_there() -> None:
    """Each path in it exists; each room and each module with a reactor is in it."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for path in set(re.findall(r"`((?:dms|tests|docs|projections|ops)/[\w/.-]+)`", page)):
        assert (ROOT / path).exists(), path
    rooms = [folder for folder in (ROOT / "dms/application").iterdir() if (folder / "__init__.py").exists()]
    assert len(rooms) >= 8
    for room in rooms:
        assert f"`{room.name}/`" in page
        for module in room.glob("*.py"):
            if "(Reactor[" in module.read_text():
                assert f"{room.name}/{module.name}`" in page, module
