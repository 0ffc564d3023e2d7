"""Where the program reads bytes or text into values: found in its source, so that what is new is in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ROOMS = ("dms", "projections")

# What can raise, or take without an end, by what the bytes say. Written as at the call.
READERS = frozenset(
    {
        "msgspec.json.decode", "msgspec.convert", "json.loads", "orjson.loads", "raw_decode", "get_single_data",
        "zlib.decompress", "zlib.decompressobj", "gzip.open", "zipfile.ZipFile", "tarfile.TarInfo.frombuf",
        "TarInfo.frombuf", "bytes.fromhex", "b64decode", "urlsplit", "urlparse", "parse_qs", "httpx.URL",
        "ip_address", "ipaddress.ip_address", "UUID", "uuid.UUID", "Decimal", "Multiaddr", "base58.b58decode",
        "datetime.fromisoformat", "time.strptime", "struct.unpack", "unpack_from", "unpack", "load_pem_private_key",
        "load_cert_chain",
    }
)  # fmt: skip


class Site(NamedTuple):
    """A function that reads: the code's own name, as a frame tells it."""

    module: str
    function: str

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


def sites() -> set[Site]:
    found: set[Site] = set()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            tree = ast.parse(path.read_text())
            readers = READERS | _own_decoders(tree)
            found |= {Site(module, name) for name, calls in _functions(tree) if calls & readers}
    return found


def _own_decoders(tree: ast.Module) -> set[str]:
    """What a module calls a decoder that it made once: `_decoder.decode`, `self._decoder.decode`. The rest of the
    bounds' `read` is read by name, and so is what is imported from there."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(targets=[target], value=ast.Call() as call)
                | ast.AnnAssign(target=target, value=ast.Call() as call)
            ) if _name(call.func).startswith("msgspec.json.Decoder"):
                found.add(f"{_name(target)}.decode")
            case ast.ImportFrom(module="dms.domain.bounds", names=names):
                found |= {name.asname or name.name for name in names if name.name == "read"}
    return found


def _functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, set[str]]]:
    """(qualified name, what it calls itself) of each function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inside + node.name, set(_calls(node))
            yield from _functions(node, f"{inside}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{inside}{node.name}.")
        else:
            yield from _functions(node, inside)


def _calls(function: ast.AST) -> Iterator[str]:
    """What it calls itself, not what functions inside it call: those are functions of their own."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Call):
            name = _name(node.func)
            yield from {name, name.rpartition(".")[2]} if name.rpartition(".")[2] in _TAILS else {name}
        yield from _calls(node)


_TAILS = frozenset({"unpack_from", "unpack", "raw_decode", "get_single_data", "load_cert_chain"})


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{_name(value)}.{attr}"
        case ast.Subscript(value=value):
            return _name(value)
    return ""
