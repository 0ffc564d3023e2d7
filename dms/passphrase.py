"""Where the passphrase of the node's key comes from: a credential of systemd, a file, or who sits at the terminal.
Never from a command line or an environment variable, which others on the machine can read."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from dms.config import Settings
from dms.errors import ConfigError
from dms.key_file import read_key
from dms.service_view import hiding_hint

KEY_CREDENTIAL, PASSPHRASE_CREDENTIAL = "node.key", "node.key.passphrase"
MOST_BYTES = 1024
_WHAT = "The file with the passphrase of the node's key"


class Passphrase:
    """source: where it was read from, once it was."""

    def __init__(self, file: Path | None = None, *, handed_over: bool = False, may_ask: bool = False) -> None:
        """file: None for none. handed_over: a credential of systemd's comes first. may_ask: at the terminal, where
        there is one."""
        self._file, self._handed_over, self._may_ask = file, handed_over, may_ask
        self.source = ""

    def read(self, prompt: str = "Passphrase of the node's key: ") -> bytes | None:
        """None where there is none to be had. Raises ConfigError."""
        if self._handed_over and (handed := credential(PASSPHRASE_CREDENTIAL)) is not None:
            self.source = f"the credential {PASSPHRASE_CREDENTIAL}"
            return _checked(read_credential(handed), str(handed))
        if self._file is not None:
            self.source = str(self._file)
            found = read_key(self._file, _WHAT)
            if found is None:
                hint = hiding_hint(self._file)
                raise ConfigError(f"{_WHAT} {self._file} is not there{hint}: put it back, or name another one.")
            return _checked(found, self.source)
        if self._may_ask and at_terminal():
            self.source = "the terminal"
            return _checked(getpass.getpass(prompt).encode(), self.source)
        return None


NO_PASSPHRASE = Passphrase()


def passphrase_of(settings: Settings) -> Passphrase:
    name = settings.general.key_passphrase_file
    return Passphrase(Path(name) if name else None, handed_over=True, may_ask=True)


def credential(name: str) -> Path | None:
    """The file of one that systemd handed over to this service; None when it did not. Source: systemd.exec(5),
    "Credentials"."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    path = Path(folder, name)
    return path if folder and path.is_file() else None


def at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def read_credential(path: Path) -> bytes:
    """Its mode is systemd's business. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return file.read(65_536)
    except OSError as error:
        raise ConfigError(f"The credential {path} can't be read: {error.strerror}.") from error


def _checked(text: bytes, source: str) -> bytes:
    """Without the newline at its end. Raises ConfigError, which does not show it."""
    secret = text.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise ConfigError(f"The passphrase of the node's key, from {source}, is empty: expected one line of text.")
    if len(secret) > MOST_BYTES or b"\n" in secret or b"\0" in secret:
        raise ConfigError(
            f"The passphrase of the node's key, from {source}, is no passphrase: expected one line of at most "
            f"{MOST_BYTES} bytes."
        )
    return secret
