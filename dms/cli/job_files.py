"""A job as it is written down: the body of request-service, as JSON (comments allowed) or YAML."""

from __future__ import annotations

from typing import IO, Any

from dms.cli.failure import Failure
from dms.errors import Exit

MOST_BYTES = 256 * 1024  # as much as the API takes
_YAML = (".yaml", ".yml")
_EXPECTED = "expected an object with service_type, params and constraints"


def read_request(file: IO[bytes]) -> dict[str, Any]:
    """Raises Failure with file, line and column of the fault."""
    path = str(getattr(file, "name", "-"))
    where = "standard input" if path in ("<stdin>", "-") else path
    body = file.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise Failure(f"{where}: a job's description has at most {MOST_BYTES} bytes", Exit.USAGE)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Failure(f"{where}: not UTF-8 at byte {error.start}", Exit.USAGE) from error
    request = _parsed(where, text, as_yaml=_is_yaml(path, text))
    if not isinstance(request, dict):
        raise Failure(f"{where}:1:1: {_EXPECTED}", Exit.USAGE, "an example: nunet job template ml-cpu")
    request.pop("$schema", None)  # for editors
    return request


def _is_yaml(path: str, text: str) -> bool:
    if path.endswith((*_YAML, ".json")):
        return path.endswith(_YAML)
    return not text.lstrip().startswith(("{", "[", "/"))


def _parsed(where: str, text: str, *, as_yaml: bool) -> Any:
    from dms import config_json
    from dms.cli import yaml_text

    try:
        return yaml_text.parse(text) if as_yaml else config_json.parse(text).plain()
    except yaml_text.YamlFault as fault:
        raise Failure(f"{where}:{fault}", Exit.USAGE) from fault
    except config_json.Fault as fault:
        first = fault.report(text).partition("\n")[0]
        raise Failure(f"{where}:{first}", Exit.USAGE) from fault


# --- changes to it -----------------------------------------------------------------------------------
def put(request: dict[str, Any], path: str, value: Any) -> None:
    """path: keys with dots between, without regard to case. Raises Failure where one leads into no object."""
    *parents, last = path.split(".")
    at = request
    for parent in parents:
        key = _key(at, parent)
        if not isinstance(at.get(key), dict):
            if at.get(key) is not None:
                raise Failure(f"{path}: {parent} is not an object", Exit.USAGE)
            at[key] = {}
        at = at[key]
    at[_key(at, last)] = value


def add(request: dict[str, Any], path: str, values: list[Any]) -> None:
    """To the list that is there."""
    known = get(request, path)
    put(request, path, [*(known if isinstance(known, list) else []), *values])


def get(request: dict[str, Any], path: str) -> Any:
    """None where there is nothing."""
    at: Any = request
    for step in path.split("."):
        at = at.get(_key(at, step)) if isinstance(at, dict) else None
    return at


def set_all(request: dict[str, Any], settings: tuple[str, ...]) -> None:
    """settings: as PATH=VALUE, the value in YAML, but for environment variables, which are text. Raises Failure."""
    from dms.cli.yaml_text import YamlFault, parse

    for text in settings:
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise Failure(f"--set {text}: expected PATH=VALUE, as in constraints.time=20", Exit.USAGE)
        try:
            put(request, path, value if _is_variable(path) else parse(value))
        except YamlFault as fault:
            raise Failure(f"--set {path}: {fault}", Exit.USAGE) from fault


def _is_variable(path: str) -> bool:
    return path.casefold().startswith(("params.env.", "params.secret_env."))


def _key(at: dict[str, Any], name: str) -> str:
    """As it is spelled there."""
    return next((key for key in at if key.casefold() == name.casefold()), name)
