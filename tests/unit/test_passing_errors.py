"""What says nothing of a file, such as that descriptors are short or that its disk is away, is no refusal of it: it is
tried again, where a refusal would lose results or fail a job for good."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from dms.adapters.executors.input_content import place_input
from dms.adapters.executors.workspace_archive import check_archive
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.files.file_parts import digest_of, open_regular
from dms.application.files.user_files import Outbox, Reach
from dms.application.inputs.own_inputs import OwnInputs
from dms.application.ports.executor import InputFile
from dms.domain.inputs import Input
from dms.errors import DiskTrouble, ExecutorUnavailable, Forbidden, InvalidInput, NotFound, Unavailable
from tests.fixtures.histories import request

PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)
LASTING = (errno.EACCES, errno.ELOOP, errno.ENXIO)
JOB = "01990000-0000-7000-8000-000000000001"
Fails = Callable[[Any, str, Path, int], None]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fails:
    """(module, name of a call in it, path, error number): that call fails with it for that path."""

    def patch(module: Any, name: str, path: Path, number: int) -> None:
        real = getattr(module, name)

        def call(given: Any, *args: Any, **more: Any) -> Any:
            if str(given) == str(path):
                raise OSError(number, os.strerror(number), str(path))
            return real(given, *args, **more)

        monkeypatch.setattr(module, name, call)

    return patch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / f"{JOB}.tar.gz"
    path.write_bytes(b"content")
    return path


def outbox(folder: Path) -> Outbox:
    return Outbox([folder], [], folder / "received")


@pytest.mark.parametrize("number", PASSING)
async def test_what_passes_is_no_refusal_of_a_file(file: Path, fails: Fails, number: int) -> None:
    fails(os, "open", file, number)
    with pytest.raises(Unavailable):
        open_regular(file)
    with pytest.raises(Unavailable):
        outbox(file.parent).check(file, Reach.DAEMONS)
    with pytest.raises(DiskTrouble):
        await digest_of(file)


@pytest.mark.parametrize("number", LASTING)
def test_what_lasts_is_a_refusal_of_it(file: Path, fails: Fails, number: int) -> None:
    fails(os, "open", file, number)
    with pytest.raises(Forbidden):
        open_regular(file)


@pytest.mark.parametrize(("number", "error"), [(errno.EIO, Unavailable), (errno.EACCES, NotFound)])
def test_a_path_that_can_not_be_looked_up_now_is_not_said_to_lead_nowhere(
    file: Path, fails: Fails, number: int, error: type[Exception]
) -> None:
    fails(os, "lstat", file, number)
    with pytest.raises(error):
        outbox(file.parent).check(file, Reach.DAEMONS)


def test_a_file_that_is_replaced_while_it_is_opened_is_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_fstat, newer = os.fstat, file.with_name("newer")
    newer.write_bytes(b"newer")

    def replaced_meanwhile(handle: int) -> os.stat_result:
        found = real_fstat(handle)
        if newer.exists():
            newer.replace(file)
        return found

    monkeypatch.setattr(os, "fstat", replaced_meanwhile)
    with pytest.raises(Unavailable, match="this moment"):
        open_regular(file)
    with os.fdopen(open_regular(file), "rb") as found:
        assert found.read() == b"newer"


async def test_a_provider_is_not_told_that_there_is_no_input_while_it_can_not_be_read(file: Path, fails: Fails) -> None:
    asked = replace(request(), params=replace(request().params, inputs=(Input(url=f"file:{file}"),)))
    log: Any = SimpleNamespace(load=lambda *_: SimpleNamespace(request=asked, client=""))
    unused: Any = None
    inputs = OwnInputs(log, unused, outbox(file.parent))
    os.close(await inputs._resolve("", f"{JOB}/1") or -1)
    fails(os, "open", file, errno.EMFILE)
    with pytest.raises(Unavailable):
        await inputs._resolve("", f"{JOB}/1")
    fails(os, "open", file, errno.EACCES)
    assert await inputs._resolve("", f"{JOB}/1") is None


@pytest.mark.parametrize(("number", "error"), [(errno.EIO, Unavailable), (errno.ENOENT, InvalidInput)])
def test_a_checkpoint_that_can_not_be_looked_at_now_is_not_said_to_be_gone(
    tmp_path: Path, fails: Fails, number: int, error: type[Exception]
) -> None:
    files = CheckpointFiles(tmp_path)
    files.make()
    received = files.received(JOB)
    received.write_bytes(b"content")
    assert files.find_received(received.name) == received
    fails(os, "lstat", received, number)
    fails(os, "stat", received, number)
    with pytest.raises(error):
        files.find_received(received.name)


def test_what_can_not_be_unpacked_for_want_of_descriptors_is_tried_again(file: Path, fails: Fails) -> None:
    fails(io, "open", file, errno.EMFILE)
    with pytest.raises(ExecutorUnavailable):
        check_archive(file, 2**20)
    workspace, given = file.parent / "workspace", InputFile(number=1, source=file, place="in", unpack="", max_bytes=9)
    workspace.mkdir()
    fails(os, "open", workspace, errno.ENFILE)
    with pytest.raises(ExecutorUnavailable):
        place_input(workspace, file.parent / "stage", file.parent / "marks", given, None, threading.Event())
