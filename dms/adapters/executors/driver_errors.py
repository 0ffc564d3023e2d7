"""Nothing but our own errors leaves a driver: what nobody thought of becomes ExecutorBroken, with its cause, whose
words are only logged: they may be the engine's."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from dms.adapters.executors.engine_words import MOST_LOGGED
from dms.errors import DmsError, ExecutorBroken

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=type[Any])


def our_errors_only(driver: C) -> C:
    """Of a class: holds for all its public methods that are asynchronous."""
    for name, method in list(vars(driver).items()):
        if name.startswith("_"):
            continue
        if inspect.iscoroutinefunction(method):
            setattr(driver, name, _called(method))
        elif inspect.isasyncgenfunction(method):
            setattr(driver, name, _iterated(method))
    return driver


def _called(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(self: Any, *args: Any, **named: Any) -> Any:
        try:
            return await method(self, *args, **named)
        except DmsError:
            raise
        except Exception as error:
            raise _broken(method, error) from error

    return call


def _iterated(method: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
    @functools.wraps(method)
    async def iterate(self: Any, *args: Any, **named: Any) -> AsyncGenerator[Any, None]:
        items = method(self, *args, **named)
        try:
            async for item in items:
                yield item
        except DmsError:
            raise
        except Exception as error:
            raise _broken(method, error) from error
        finally:
            await items.aclose()

    return iterate


def _broken(method: Callable[..., Any], error: Exception) -> ExecutorBroken:
    logger.warning("the executor could not %s: %s: %s", method.__name__, type(error).__name__, str(error)[:MOST_LOGGED])
    return ExecutorBroken(f"the executor could not {method.__name__}: {type(error).__name__}")
