"""Which commands there are, read from the code: what the REST API and peers call, and what records an event."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3] / "dms"
Function = ast.FunctionDef | ast.AsyncFunctionDef
SAVE = "self._log.save"


class Method(NamedTuple):
    owner: str  # a class
    name: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


class Classes:
    """Those of the application: their methods, and of which class what they keep is, as `__init__` says."""

    def __init__(self) -> None:
        self.methods: dict[Method, Function] = {}
        self._kept: dict[tuple[str, str], str] = {}  # (class, attribute) -> class
        for node in self._all():
            for part in node.body:
                if isinstance(part, Function):
                    self.methods[Method(node.name, part.name)] = part
            self._note_kept(node)

    def called(self, method: Method) -> Iterator[Method]:
        """Methods of the application that it calls or hands on."""
        for node in ast.walk(self.methods[method]):
            if isinstance(node, ast.Attribute):
                yield from self._meant(method.owner, ast.unparse(node))

    def saving(self) -> set[Method]:
        """What records an event, by itself or by what it calls."""
        found = {method for method, node in self.methods.items() if SAVE in _names(node)}
        while more := {m for m in self.methods.keys() - found if not found.isdisjoint(self.called(m))}:
            found |= more
        return found

    def _all(self) -> Iterator[ast.ClassDef]:
        for path in sorted((ROOT / "application").rglob("*.py")):
            yield from (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef))

    def _note_kept(self, node: ast.ClassDef) -> None:
        made = self.methods.get(Method(node.name, "__init__"))
        if made is None:
            return
        arguments = (*made.args.args, *made.args.kwonlyargs)
        types = {a.arg: ast.unparse(a.annotation).partition(" |")[0] for a in arguments if a.annotation is not None}
        for statement in ast.walk(made):
            if isinstance(statement, ast.Assign):
                for target, value in _pairs(statement.targets[0], statement.value):
                    kind = types.get(value) or value.partition("(")[0]
                    self._kept[node.name, target.removeprefix("self.")] = kind

    def _meant(self, owner: str, text: str) -> Iterator[Method]:
        parts = text.split(".")
        if parts[0] != "self" or len(parts) not in (2, 3):
            return
        kind = owner if len(parts) == 2 else self._kept.get((owner, parts[1]), "")
        if (method := Method(kind, parts[-1])) in self.methods:
            yield method


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, other)
    else:
        yield ast.unparse(target), ast.unparse(value)


def _names(node: ast.AST) -> set[str]:
    return {ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def _services() -> dict[str, str]:
    """Field of Services -> its class."""
    tree = ast.parse((ROOT / "application" / "services.py").read_text())
    fields = [part for node in tree.body if isinstance(node, ast.ClassDef) for part in node.body]
    return {ast.unparse(f.target): ast.unparse(f.annotation) for f in fields if isinstance(f, ast.AnnAssign)}


def called_by_rest() -> set[Method]:
    """What handlers of HTTP and websockets call: `services.<field>.<method>`, and through a local name of the field."""
    fields, found = _services(), set[Method]()
    for path in sorted((ROOT / "adapters" / "http").glob("*.py")):
        tree = ast.parse(path.read_text())
        for name in _names(tree) | _through_names(tree, fields):
            parts = name.split(".")
            if len(parts) >= 3 and parts[-3] in ("services", "_services") and parts[-2] in fields:
                found.add(Method(fields[parts[-2]], parts[-1]))
    return found


def _through_names(tree: ast.AST, fields: dict[str, str]) -> set[str]:
    """`device = api.services.device; device.onboard(...)`, in any function of the module."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                if value.rpartition(".")[2] in fields and "services." in value:
                    names[target] = value.rpartition(".")[2]
    parts = [name.split(".") for name in _names(tree)]
    return {f"services.{names[p[0]]}.{p[1]}" for p in parts if len(p) == 2 and p[0] in names}


def called_by_peers(classes: Classes) -> set[Method]:
    """What is handed to a call whose name begins with `serve`."""
    found: set[Method] = set()
    for method, node in classes.methods.items():
        for call in _serve_calls(node):
            for argument in call.args:
                found |= set(classes._meant(method.owner, ast.unparse(argument)))
    fields = _services()
    for call in _serve_calls(ast.parse((ROOT / "daemon.py").read_text())):
        for argument in call.args:
            parts = ast.unparse(argument).split(".")
            if len(parts) >= 2 and parts[-2] in fields:
                found.add(Method(fields[parts[-2]], parts[-1]))
    return found


def _serve_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2].startswith("serve"):
            yield node


def commands() -> set[Method]:
    classes = Classes()
    return (called_by_rest() | called_by_peers(classes)) & classes.saving()


def saved_commands(classes: Classes) -> dict[Method, Function]:
    return {method: classes.methods[method] for method in commands()}
