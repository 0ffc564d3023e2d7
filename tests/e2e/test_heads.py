"""A log whose tail was cut, views and all, is found out by the head that a peer has signed: two daemons, one job."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.p2p.identity import Identity
from dms.application.records.export import export_log
from dms.cli.main import cli
from dms.domain.chain import SignedRecord, id_bytes
from ops.nodes import Node, stop_nodes, wait_for
from tests.fixtures.network import Network, environment, nunet, nunet_json, request_for, running_network

pytestmark = [pytest.mark.slow]


class Ended(NamedTuple):
    """Folders of two daemons that have run a job and stopped, and exports of their whole logs."""

    network: Network
    live: dict[str, Any]  # what `nunet audit verify` said while they ran


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    with running_network(tmp_path_factory.mktemp("network")) as network:
        request = request_for(network.compute, "echo out")
        nunet(network.service, "job", "run", "-", "--tx-hash", "a1", "--wait", stdin=request)
        for node in network:
            wait_for(f"the head of {node.name} to be signed", 120, partial(own, node), network)
            nunet(node, "events", "export", "-f", str(node.folder / "log.ndjson"))
        live = {node.name: nunet_json(node, "audit", "verify") for node in network}
        stop_nodes(network)
        yield Ended(network, live)


def heads_of(node: Node) -> Path:
    return node.database.with_name("heads.json")


def own(node: Node) -> list[dict[str, Any]]:
    """The signatures that others gave it."""
    path = heads_of(node)
    return list(json.loads(path.read_bytes())["own"]) if path.is_file() else []


def witnessed(node: Node) -> int:
    return int(max(found["head"]["position"] for found in own(node)))


def last(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection, connection:
        return int(connection.execute("SELECT max(position) FROM event").fetchone()[0])


def copied(node: Node, to: Path, *, heads: bool = True) -> Path:
    """The log as it is on disk; its views are not copied."""
    for path in node.database.parent.glob("events.db*"):
        shutil.copy(path, to / path.name)
    if heads:
        shutil.copy(heads_of(node), to / "heads.json")
    return to / "events.db"


def cut(database: Path, position: int) -> None:
    """All events behind it are gone."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM event WHERE position > ?", (position,))


def audit(*options: str | Path, code: int = 0) -> tuple[dict[str, Any], str]:
    """(what `nunet -o json audit verify` prints, standard error)."""
    done = CliRunner().invoke(cli, ["-o", "json", "audit", "verify", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_both_sides_have_the_others_signature_and_verify_while_they_run(ended: Ended) -> None:
    for node, other in (ended.network, reversed(ended.network)):
        report = ended.live[node.name]
        assert report["intact"]
        assert report["heads"]["peer_id"] == node.peer_id
        assert report["heads"]["position"] == witnessed(node)
        assert {found["witness"] for found in own(node)} == {other.peer_id}


def test_the_witnesses_are_listed(ended: Ended) -> None:
    service, compute = ended.network
    rows = nunet_json(service, "audit", "heads")
    assert {row["what"] for row in rows} == {"own head", "peer's head"}
    assert all(row["genuine"] for row in rows)
    assert compute.peer_id in nunet(service, "audit", "heads").stdout
    assert "no peer has been shown a head" in nunet(service, "audit", "heads", "--heads", "/none", code=3).stderr


@pytest.mark.parametrize("which", [0, 1])
def test_a_cut_tail_names_the_position_and_the_witness(ended: Ended, tmp_path: Path, which: int) -> None:
    node, other = ended.network[which], ended.network[1 - which]
    database, position = copied(node, tmp_path), witnessed(node)
    assert audit("--database", database)[0]["intact"]
    cut(database, position - 2)
    report, error = audit("--database", database, code=1)
    assert f"the tail was cut: peer {other.peer_id} witnessed position {position} at " in error
    assert f"the log ends at {position - 2}" in error
    assert (report["intact"], report["events"]) == (False, position - 2)
    assert report["fault"] == report["heads"]["faults"][0]


def test_without_its_own_file_a_log_is_held_against_the_peers(ended: Ended, tmp_path: Path) -> None:
    service, compute = ended.network
    database, position = copied(service, tmp_path, heads=False), witnessed(service)
    cut(database, position - 1)
    assert audit("--database", database)[0]["heads"] is None  # nobody knows, as before
    report, error = audit("--database", database, "--heads", heads_of(compute), code=1)
    assert f"peer {compute.peer_id} witnessed position {position}" in error
    assert report["heads"]["peer_id"] == service.peer_id
    error = audit("--database", database, "--heads", heads_of(compute), "--peer", "12D3KooWOther", code=1)[1]
    assert "keeps no head of 12D3KooWOther" in error


def test_a_tail_that_was_written_anew_is_another_history(ended: Ended, tmp_path: Path) -> None:
    """By one who holds the database and makes the chain fit."""
    service, compute = ended.network
    position, folder = witnessed(service), tmp_path / "anew"
    folder.mkdir()
    lines = (service.folder / "log.ndjson").read_bytes().splitlines(keepends=True)
    records = [msgspec.json.decode(line, type=SignedRecord) for line in lines[1:-1]]
    recorder = SQLiteRecorder(folder / "events.db")
    recorder.insert(
        [
            Draft(
                r.stream, r.version, r.topic, r.data.encode(), r.schema_version, r.time + 1, id_bytes(r.event_id),
                id_bytes(r.correlation_id), id_bytes(r.causation_id), r.traceparent,
            )
            for r in records
        ]
    )  # fmt: skip
    recorder.commit()
    recorder.close()
    error = audit("--database", folder / "events.db", "--heads", heads_of(compute), code=1)[1]
    assert f"position {position} is not what peer {compute.peer_id} witnessed at " in error


def test_an_export_is_held_against_the_files_of_both_sides(ended: Ended, tmp_path: Path) -> None:
    service, compute = ended.network
    export, files = service.folder / "log.ndjson", ("--heads", heads_of(service), "--heads", heads_of(compute))
    report = audit("--export", export, *files)[0]
    assert (report["intact"], report["heads"]["witnesses"]) == (True, 1)
    database, position = copied(service, tmp_path), witnessed(service)
    cut(database, position - 1)
    shorter = tmp_path / "shorter.ndjson"
    shorter.write_bytes(asyncio.run(exported(database, service)))
    assert audit("--export", shorter)[0]["intact"]  # by itself it is a sound log, and signed
    error = audit("--export", shorter, *files, code=1)[1]
    assert f"peer {compute.peer_id} witnessed position {position}" in error
    assert f"the log ends at {position - 1}" in error


async def exported(database: Path, node: Node) -> bytes:
    """By the owner of the log, who has its key."""
    log = SQLiteEventLog(database)
    identity = Identity.load_or_create(node.folder / "work" / "node.key")
    lines = b"".join([chunk async for chunk in export_log(log, identity)])
    await log.close()
    return lines


def test_the_export_of_a_job_has_no_whole_chain_to_hold_against_heads(ended: Ended, tmp_path: Path) -> None:
    service, compute = ended.network
    text = (service.folder / "log.ndjson").read_text().replace('"kind":"log"', '"kind":"job"', 1)
    (tmp_path / "job.ndjson").write_text(text)
    error = audit("--export", tmp_path / "job.ndjson", "--heads", heads_of(compute), code=1)[1]
    assert "does not verify" in error
    for wrong in (("--heads", heads_of(compute), "--against", "x"), ("--peer", "x")):
        assert audit("--export", tmp_path / "job.ndjson", *wrong, code=2)[1].startswith("error: --")


@pytest.mark.parametrize("side", [0, 1])
def test_a_copy_in_the_folder_of_another_dms_is_not_held_against_that_ones_heads_and_views(
    ended: Ended, tmp_path: Path, side: int
) -> None:
    """Each has seen further than the other's log goes, or another event there."""
    own, other = ended.network[side], ended.network[1 - side]
    copied(own, tmp_path)
    shutil.copy(own.database.with_name("views.db"), tmp_path / "views.db")
    nunet(other, "events", "import", str(other.folder / "log.ndjson"), "--database", str(tmp_path / "copy.db"))
    report, _ = audit("--database", tmp_path / "copy.db")
    assert (report["intact"], report["heads"]["peer_id"], report["views"]) == (True, other.peer_id, [])
    assert report["heads"]["countersignatures"] > 0
    nunet(own, "events", "import", str(own.folder / "log.ndjson"), "--database", str(tmp_path / "own.db"))
    report, _ = audit("--database", tmp_path / "own.db")
    assert (report["intact"], report["heads"]["peer_id"]) == (True, own.peer_id)


def test_a_forged_signature_is_told(ended: Ended, tmp_path: Path) -> None:
    service, compute = ended.network
    database = copied(service, tmp_path)
    kept = json.loads(heads_of(service).read_bytes())
    kept["own"][0]["head"]["position"] += 1000
    (tmp_path / "heads.json").write_text(json.dumps(kept))
    error = audit("--database", database, code=1)[1]
    assert f"the countersignature of {compute.peer_id} for position " in error
    assert "is not genuine" in error
    assert "the tail was cut" not in error


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"peer_id": 1}', b"[" * 100_000])
def test_a_garbled_file_is_told_and_never_taken_for_no_file(ended: Ended, tmp_path: Path, body: bytes) -> None:
    database = copied(ended.network.service, tmp_path)
    (tmp_path / "heads.json").write_bytes(body)
    report, error = audit("--database", database, code=1)
    assert "can't be read as a file of heads" in error
    assert (report["events"], report["intact"]) == (last(database), False)
    assert (
        "can't be read as a file of heads"
        in audit("--database", database, "--heads", tmp_path / "heads.json", code=1)[1]
    )
    assert "there is no" in audit("--database", database, "--heads", tmp_path / "none.json", code=3)[1]


def test_a_daemon_on_a_cut_log_says_so_when_it_starts(ended: Ended, tmp_path: Path) -> None:
    service, compute = ended.network
    (tmp_path / "work").mkdir()
    shutil.copy(service.folder / "work" / "node.key", tmp_path / "work" / "node.key")
    database, position = copied(service, tmp_path), witnessed(service)
    cut(database, position - 1)
    settings = {
        "general.work_dir": tmp_path / "work", "general.data_dir": tmp_path, "rest.port": 0, "p2p.mdns": "false",
        "p2p.listen_address": "/ip4/127.0.0.1/tcp/0", "job.executor": "process",
    }  # fmt: skip
    pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with subprocess.Popen(
        [sys.executable, "-m", "dms.cli", "run", *pairs], env=environment(), stderr=subprocess.PIPE, text=True
    ) as daemon:
        try:
            assert daemon.stderr is not None
            line = next(line for line in daemon.stderr if "log_contradicted" in line)
            assert f"peer {compute.peer_id} witnessed position {position}" in line
        finally:
            daemon.terminate()
