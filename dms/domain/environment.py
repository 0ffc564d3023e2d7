"""Environment variables that a job asks for. The values of secret ones stand in events sealed under the job's key:
there is no place where they can be read but the memory of the DMS that starts the container, and the container."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

MOST_VARIABLES = 128
LONGEST_NAME = 128
MOST_BYTES = 32 * 1024  # of all names and values together
LONGEST_VALUE = 2 * MOST_BYTES  # sealed it is longer
SEALED = "sealed:"  # how a sealed value begins; then a token of the keyring
SEAL_BYTES = 28  # of a nonce and a tag, in each token
PURPOSE = "job environment "  # then the variable's name: a value can't be given to another

OWN_NAMES = ("HOME", "CUDA_VISIBLE_DEVICES")
OWN_PREFIXES = ("DMS_", "NUNET_", "NVIDIA_", "LD_")

Variables = Annotated[
    dict[Annotated[str, Meta(max_length=LONGEST_NAME)], Annotated[str, Meta(max_length=LONGEST_VALUE)]],
    Meta(max_length=MOST_VARIABLES),
]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def problems_of_environment(env: Mapping[str, str], secret: Mapping[str, str]) -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong). No value is repeated."""
    found = [
        (f"/params/{field}/{_step(name)}", problem)
        for field, variables in (("env", env), ("secret_env", secret))
        for name, value in variables.items()
        if (problem := _problem(name, value))
    ]
    found += [(f"/params/secret_env/{_step(name)}", "is in env as well") for name in secret if name in env]
    size = sum(len(name.encode()) + _size(value) for each in (env, secret) for name, value in each.items())
    if len(env) + len(secret) > MOST_VARIABLES:
        found.append(("/params/env", f"{len(env) + len(secret)} variables, at most {MOST_VARIABLES}"))
    if size > MOST_BYTES:
        found.append(("/params/env", f"names and values have {size} bytes, at most {MOST_BYTES} can be passed on"))
    return found


def own_name(name: str) -> bool:
    """Whether the provider sets it itself, or the machine's loader would act on it."""
    upper = name.upper()
    return upper in OWN_NAMES or upper.startswith(OWN_PREFIXES)


def unsealed_names(secret: Mapping[str, str]) -> Iterator[str]:
    """Of those whose value can be read."""
    return (name for name, value in secret.items() if not value.startswith(SEALED))


def _problem(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        return f"{name[:64]!r} is not a name of a variable: letters, digits and '_', no digit first"
    if own_name(name):
        return f"{name} is set by the provider; choose another name"
    if "\0" in value:
        return "has a NUL character, which no program can be given"
    return "" if value.isascii() or _is_utf8(value) else "is not text that can be passed on"


def _is_utf8(value: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _size(value: str) -> int:
    """In bytes, as a program gets it."""
    if value.startswith(SEALED) and "." in value:
        return max(0, len(value.rpartition(".")[2]) * 3 // 4 - SEAL_BYTES)
    return len(value.encode("utf-8", "surrogatepass"))


def _step(name: str) -> str:
    """As a step of a JSON pointer. Source: RFC 6901."""
    return name[:64].replace("~", "~0").replace("/", "~1")
