"""Whose log it is: the peer whose key the node had when it wrote it. Kept in the log's own file, but not as an event:
a log that was never onboarded has one too."""

from __future__ import annotations

from dms.adapters.eventlog.recorder import LogRecorder
from dms.domain.device import Device
from dms.errors import ConfigError

_NOTE = "peer"
_WAY_OUT = (
    "Put the right one back from a backup. To start anew as another peer, either name other folders "
    "(general.data_dir, general.work_dir), or give the old identity up: nunet offboard --forget-identity"
)


class LogOwner:
    def __init__(self, recorder: LogRecorder, witnessed: str = "") -> None:
        """witnessed: whose heads are kept beside a log of an older version, which has no such note; empty for none."""
        self._recorder = recorder
        noted = recorder.note(_NOTE)
        self._noted = noted is not None
        devices = [name.partition("-")[2] for name in recorder.streams(Device.KIND)] if noted is None else []
        self.peers = [peer for peer in ([noted.decode()] if noted is not None else devices or [witnessed]) if peer]
        """Who it may be, the newest last; nobody where anybody may take it. Only in logs of older versions more than
        one: those started as another peer when the key was gone."""

    def check(self, peer_id: str, key_file: str) -> None:
        """Raises ConfigError for a key that is not of this log."""
        if self.peers and peer_id not in self.peers:
            raise ConfigError(
                f"The node's key file {key_file} is that of peer {peer_id}, but the event log beside it is of peer "
                f"{self.peers[-1]}: the key was replaced or damaged. {_WAY_OUT}"
            )

    def check_gone(self, key_file: str) -> None:
        """Raises ConfigError when the key can't be missing on purpose: a node that was offboarded may give up its
        identity by removing the file."""
        if self.peers and not self._is_offboarded(self.peers[-1]):
            raise ConfigError(
                f"The node's key file {key_file} is missing, and the event log is of peer {self.peers[-1]}, which "
                f"nobody can be without it. {_WAY_OUT}"
            )

    def take(self, peer_id: str) -> None:
        """From now on it is that peer's. Raises PersistenceError."""
        if not self._noted or self.peers != [peer_id]:
            self._recorder.set_note(_NOTE, peer_id.encode())
            self._noted, self.peers = True, [peer_id]

    def release(self) -> None:
        """Anybody may take it now; before a new key is made, so that a kill leaves no key that is refused. Raises
        PersistenceError."""
        self._recorder.set_note(_NOTE, b"")
        self._noted, self.peers = True, []

    def _is_offboarded(self, peer_id: str) -> bool:
        events = self._recorder.read_stream(f"{Device.KIND}-{peer_id}")
        return bool(events) and events[-1].topic == Device.Offboarded.TOPIC
