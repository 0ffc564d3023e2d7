"""The options that describe a job on the command line, alone or on top of a file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dms.cli.core import F
from dms.cli.failure import Failure
from dms.cli.job_files import add, get, put, set_all
from dms.cli.references import PeerId
from dms.durations import seconds_in
from dms.errors import Exit

DEFAULTS: Mapping[str, Any] = {
    "service_type": "ml-training-cpu",
    "params": {"machine_type": "cpu"},
    "constraints": {"complexity": "Low", "cpu": 1000, "ram": 1000, "time": 10},
    "max_ntx": 10,
}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Duration(click.ParamType[float]):
    name = "duration"

    def __init__(self, *, positive: bool = False) -> None:
        self._positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = seconds_in(str(value), unit_seconds=1.0)
        except ValueError:
            self.fail(f"{value!r} is not a duration: a number of seconds, or a text such as 90s, 10m, 1h", param, ctx)
        if self._positive and seconds <= 0:
            self.fail(f"{value!r} is no time at all: at least a minute is counted, such as 10m", param, ctx)
        return seconds


class Amount(click.ParamType[int]):
    """A whole number, or one with a unit of a thousand of them."""

    def __init__(self, unit: str, thousand: str) -> None:
        self.name, self._thousand = unit, thousand
        self._pattern = re.compile(
            rf"([0-9]{{1,15}}(?:\.[0-9]{{1,15}})?)\s*({unit}|{thousand}|{thousand[0]})?", re.IGNORECASE
        )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = self._pattern.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is neither a number of {self.name} nor one such as 2{self._thousand}", param, ctx)
        factor = 1000 if (found[2] or "").casefold().startswith(self._thousand[0].casefold()) else 1
        return math.ceil(float(found[1]) * factor)


def describing(function: F) -> F:
    """Decorator: they come in as one keyword each; see `described`."""
    options = [
        click.option("--image", metavar="IMAGE", help="The container image."),
        click.option("--gpu", is_flag=True, help="Run on a GPU."),
        click.option("--gpus", type=click.IntRange(1, 64), help="Run on this many GPUs."),
        click.option("--vram", type=Amount("MB", "GB"), help="Memory of each GPU, in MB."),
        click.option("--time", "lasting", type=Duration(positive=True), help="Stop it after this long, such as 10m."),
        click.option("--cpu", type=Amount("MHz", "GHz"), help="CPU, in MHz over all cores."),
        click.option("--ram", type=Amount("MB", "GB"), help="Memory, in MB."),
        click.option("--input", "inputs", multiple=True, metavar="URL|FILE", help="Fetch this into /workspace first."),
        click.option("--env", "env", multiple=True, metavar="NAME[=VALUE]", help="Set an environment variable."),
        click.option(
            "--secret-env", multiple=True, metavar="NAME[=VALUE]", help="Set an environment variable, kept secret."
        ),
        click.option("--network", type=click.Choice(["none", "internet"]), help="What the job can reach."),
        click.option(
            "--attempts", type=click.IntRange(min=1),
            help="Try it at most this often, also at other providers, while it fails by no fault of its own.",
        ),
        click.option("--provider", type=PeerId(), metavar="PEER", help="Only this provider may run it."),
        click.option("--max-ntx", type=click.FloatRange(min=0), help="The most that it may cost  [default: 10]."),
        click.option(
            "--set", "settings", multiple=True, metavar="PATH=VALUE",
            help="Set any other field, such as constraints.power=200.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def described(request: dict[str, Any], given: Mapping[str, Any], arguments: tuple[str, ...]) -> dict[str, Any]:
    """The request with what the options say, which is worth more than what it says itself. arguments: the container's
    own. Raises Failure."""
    plain = {
        "params.image_id": given["image"],
        "constraints.gpus": given["gpus"],
        "constraints.vram": given["vram"],
        "constraints.time": None if given["lasting"] is None else max(1, math.ceil(given["lasting"] / 60)),
        "constraints.cpu": given["cpu"],
        "constraints.ram": given["ram"],
        "constraints.network": given["network"],
        "params.node_id": given["provider"],
        "retry.max_attempts": given["attempts"],
        "max_ntx": given["max_ntx"],
        "params.arguments": list(arguments) or None,
    }
    for path, value in plain.items():
        if value is not None:
            put(request, path, value)
    if given["gpu"] or given["gpus"]:
        put(request, "params.machine_type", "gpu")
        if get(request, "service_type") == "ml-training-cpu":
            put(request, "service_type", "ml-training-gpu")
    if given["inputs"]:
        add(request, "params.inputs", [{"url": _url(text)} for text in given["inputs"]])
    for field in ("env", "secret_env"):
        for text in given[field]:
            name, value = _variable(text)
            put_variable(request, f"params.{field}", name, value)
    set_all(request, given["settings"])
    return request


def with_own_command(request: dict[str, Any]) -> dict[str, Any]:
    """Where nothing is said of what the container is given: no arguments, rather than the original's two, which would
    be empty and stand in place of the image's own command."""
    if all(get(request, f"params.{name}") in (None, "", []) for name in ("arguments", "model_url", "packages")):
        put(request, "params.arguments", [])
    return request


def put_variable(request: dict[str, Any], path: str, name: str, value: str) -> None:
    """Names of variables are told apart by case, and may have dots."""
    known = get(request, path)
    put(request, path, {**(known if isinstance(known, dict) else {}), name: value})


def _url(text: str) -> str:
    """What is not a URL is a file of this machine."""
    return text if _SCHEME.match(text) else Path(text).absolute().as_uri()


def _variable(text: str) -> tuple[str, str]:
    """NAME alone: as it is in this shell's environment, so that a secret need not be in the list of processes."""
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise Failure(f"the environment variable {name} is not set here", Exit.USAGE, f"give it as {name}=VALUE")
    return name, os.environ[name]
