"""Tells the service manager how the daemon is: systemd's notification protocol, `man sd_notify`.

One datagram of `KEY=value` lines to the Unix socket that the manager named; without one nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, MutableMapping

log = logging.getLogger("dms.service")


class ServiceManager:
    """address: of the manager's socket, "" for none; watchdog_seconds: how long it waits for a sign of life, 0: not."""

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, env: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """Takes the variables out of env, so that no job's process can speak for us."""
        address = env.pop("NOTIFY_SOCKET", "")
        microseconds, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        ours = microseconds.isdecimal() and pid in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if ours else 0.0)

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={_one_line(text)}")

    def ready(self, text: str) -> None:
        self._send("READY=1", f"STATUS={_one_line(text)}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    async def watch(self, fault: Callable[[], str | None], ready: Callable[[], str | None] = lambda: None) -> None:
        """Gives a sign of life twice per watchdog period while `fault` answers None; otherwise says what is wrong,
        and leaves it to the manager to end us. What only keeps it from being ready is said, and ends nothing.
        Runs until cancelled; returns at once without a watchdog."""
        told: str | None = None
        while self.watchdog_seconds > 0:
            wrong = fault()
            if wrong is None:
                self._send("WATCHDOG=1")
            wrong = wrong or ready()
            if wrong != told:
                self.status(wrong or "ready")
                told = wrong
            await asyncio.sleep(self.watchdog_seconds / 2)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)  # a manager that doesn't read must not stop the loop
                out.connect(self._address)
                out.send("\n".join(lines).encode())
        except OSError as error:
            log.warning("the service manager can't be told %s: %s", lines[0], error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
