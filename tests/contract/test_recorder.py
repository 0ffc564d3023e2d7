"""eventsourcing's own recorder suite on our recorder: its contract is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID, uuid4

from eventsourcing.tests.persistence import ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase

from dms.adapters.eventlog.sqlite import SQLiteRecorder


class _OnDisk:
    """Builds recorders in a folder of their own; closes them after the test."""

    def new_originator_id(self) -> UUID | str:
        return f"job-{uuid4()}"

    def create_recorder(self) -> SQLiteRecorder:
        folder = tempfile.TemporaryDirectory()
        recorder = SQLiteRecorder(Path(folder.name) / "events.db")
        self.addCleanup(folder.cleanup)  # type: ignore[attr-defined]
        self.addCleanup(recorder.close)  # type: ignore[attr-defined]
        return recorder


class TestApplicationRecorder(_OnDisk, ApplicationRecorderTestCase[SQLiteRecorder]):
    INITIAL_VERSION = 1

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestPositionsDoNotInterleave(_OnDisk, NonInterleavingNotificationIDsBaseCase):
    INITIAL_VERSION = 1
    insert_num = 500


del ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase
