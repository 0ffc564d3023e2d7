"""What a job and its requester leave on a machine that others use too: no file that they can read, no line that
somebody else has written, no secret in what is listed or kept, and on NATS nothing of a person."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import websockets
from nats.aio.msg import Msg

from tests.fixtures.dms import ADDRESS, Dms, Follower, pair, payment, request_body
from tests.fixtures.images import SHELL_IMAGE
from tests.fixtures.live_folders import below, files_with
from tests.fixtures.nats import NatsServer, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORGED = "a\r\nFAKE 200 OK\x1b[2J\x00"
SECRET = "s3cr3t-of-a-job-7f1c"
SETTINGS = {"job__executor": "process", "job__allow_process_for_peers": "true", "general__debug": "true"}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill9()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory, nats: NatsServer) -> AsyncIterator[tuple[Dms, Dms]]:
    """A requester and a provider, between which a job runs: the command lines while it did are in `seen`, and all that
    a subscriber of everything got in `heard`."""
    async with (
        nats.client() as subscriber,
        pair(tmp_path_factory.mktemp("pair"), **SETTINGS, nats__url=nats.url) as (sp, cp),
    ):
        await subscriber.subscribe(">", cb=hear)
        body = request_body("sleep 1; echo canary-output; echo canary-errors >&2 # canary-script")
        body["params"] |= {
            "secret_env": {"KEY": SECRET}, "env": {"PLACE": "canary-env"}, "packages": ["canary-package"],
            "results": ["canary-results/*"],
        }  # fmt: skip
        quote = await sp.post("/run/request-service", body)
        follower = Follower(sp, quote["job_id"])
        async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
            await socket.send(payment("canary-payment", quote["job_id"]))
            while "deployment-response" not in str(await socket.recv()):
                continue
            seen.extend(sp.command_lines() + cp.command_lines())
        await follower.until_over()
        assert follower.names[-1] == "job-completed"
        assert "canary-output" in str(follower.lines)
        await relayed(sp, cp, nats)
        yield sp, cp


seen: list[str] = []
heard: list[tuple[str, bytes]] = []


async def hear(message: Msg) -> None:
    heard.append((message.subject, message.data))


async def relayed(sp: Dms, cp: Dms, nats: NatsServer) -> None:
    """Waits until NATS has all that the logs have now."""
    heads = {(await dms.get("/peers/self"))["ID"]: dms.head() for dms in (sp, cp)}
    async with asyncio.timeout(120):
        while True:
            told = [message["source"] for message in await stored(nats)]
            if all(sum(source.endswith(peer) for source in told) >= head for peer, head in heads.items()):
                return
            await asyncio.sleep(0.05)


async def test_no_other_user_can_read_what_it_keeps(both: tuple[Dms, Dms]) -> None:
    """While it runs, after a job. daemon.log is made by this test, and the folder itself too."""
    for dms in both:
        made = {
            path: status.st_mode
            for path, status in below(dms.folder).items()
            if path.name != "daemon.log" and not stat.S_ISLNK(status.st_mode)
        }
        assert {"events.db", "events.db-wal", "node.key", "views.db"} <= {path.name for path in made}
        open_to_others = [path for path, mode in made.items() if stat.S_IMODE(mode) & 0o007]
        assert [path for path in open_to_others if is_reachable(path, dms.folder)] == []


def is_reachable(path: Path, top: Path) -> bool:
    """Whether others have a way to it below that folder."""
    parents = [one for one in path.parents if one.is_relative_to(top) and one != top]
    return all(stat.S_IMODE(one.stat().st_mode) & 0o001 for one in parents)


async def test_no_name_of_a_requester_makes_a_line_of_the_log(both: tuple[Dms, Dms]) -> None:
    dms, _ = both
    before = (dms.folder / "daemon.log").stat().st_size
    async with httpx.AsyncClient(base_url=f"{dms.url}/api/v1", timeout=120) as client:
        body = request_body("true")
        for field in ("image_id", "model_url", "machine_type"):
            await client.post("/run/request-service", json={**body, "params": {**body["params"], field: FORGED}})
        for field in ("address_user", "service_type", "blockchain"):
            await client.post("/run/request-service", json={**body, field: FORGED})
        onboard = {"memory": 1000, "cpu": 1000, "channel": FORGED, "payment_addr": ADDRESS}
        await client.post("/onboarding/onboard", json=onboard)
        await client.post("/onboarding/onboard", json={**onboard, "channel": "nunet-test", "payment_addr": FORGED})
        await client.post("/transactions/send-status", json={"transaction_type": FORGED, "tx_hash": FORGED})
        await client.post("/tokens", json={"name": FORGED, "role": "read"})
        await client.get(f"/jobs/{'a%0d%0aFAKE%20200%20OK%1b%5b2J%00'}")
        await client.get(
            "/jobs", params={"search": FORGED}, headers={"user-agent": "a\x1b[2J", "x-request-id": "b\x1b[2J"}
        )
    with (dms.folder / "daemon.log").open("rb") as log:
        log.seek(before)
        written = log.read()
    assert not re.search(rb"^\W*FAKE", written, re.MULTILINE)
    assert not re.search(rb"[\x00-\x08\x0b-\x1f]", written)


async def test_no_secret_is_seen_by_who_lists_processes_or_finds_the_files(both: tuple[Dms, Dms]) -> None:
    assert len(seen) >= 2
    assert not [line for line in seen if SECRET in line]
    for dms in both:
        assert files_with(dms.folder, SECRET) == []


async def test_who_reads_all_of_nats_learns_states_and_nothing_of_a_person(
    both: tuple[Dms, Dms], nats: NatsServer
) -> None:
    """Of all that a request, its payment and its output can say, while it runs and from the stream afterwards."""
    everything = [f"{subject} {data.decode(errors='replace')}" for subject, data in heard]
    everything += [str(message) for message in await stored(nats)]
    assert any("job.completed" in text for text in everything), "else we read in the wrong place"
    for canary in ("canary-", SECRET, ADDRESS, SHELL_IMAGE):
        assert [text for text in everything if canary in text] == [], canary
