"""Who names an image chooses whom the provider's engine asks. Nobody in the provider's own network is asked, and what
somebody there answers all the same reaches nobody outside."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from dms.adapters.executors.docker import DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.pulls import NOT_GIVEN, TROUBLE
from dms.application.network.messages import PreflightAnswer, PreflightRequest
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.image import parse_image
from dms.errors import InvalidInput
from tests.fixtures.dms import request_body
from tests.fixtures.histories import request
from tests.fixtures.provider import LIMITS, SERVICE_PROVIDER, accepted, ask, docker_provider, end_of
from tests.fixtures.registry import Registry, Trouble, registry, serve_registry
from tests.integration.http.node import Node

__all__ = ["registry"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

SECRET = "db-password-Kx81"
NO_NAMES = [
    "", "-v", "--privileged", "-v /:/host busybox", "../x", "a/../b", "/etc/passwd", "./x", "a//b", "a b", "a\nb",
    "a\0b", "UPPER", "a:b:c", "a:", "a@sha256:12", "a@md5:" + "a" * 64, "x" * 300, "x" * 5_000, "bücher", "http://a/b",
    "file:///etc/passwd", "a/b?c", "a#b", "$(id)", "`id`", "a;id", "a|b", "a" * 64, "sha256:" + "0" * 64,
    "host:99999999/a", "registry.example@evil.example/x", "[::ffff:127.0.0.1]:80/x",
]  # fmt: skip
INNER_HOSTS = [
    "127.0.0.1:{port}", "localhost:{port}", "x.localhost:{port}", "127.1:{port}", "0x7f000001:{port}",
    "2130706433:{port}", "0.0.0.0:{port}", "[::1]:{port}", "[::ffff:7f00:1]:{port}", "10.0.0.1", "172.16.0.1:5000",
    "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00::1]:5000", "registry:5000", "db:5432",
    "metadata.google.internal", "printer.local", "router.lan", "host.docker.internal:{port}",
]  # fmt: skip


def settings(*allow: str) -> DockerSettings:
    return DockerSettings(limits=LIMITS, network="none", policy=ImagePolicy(allow=allow), patience_seconds=0.0)


@pytest_asyncio.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Node]:
    """As an owner has it who set nothing."""
    async with docker_provider(tmp_path / "strict", settings()) as node:
        yield node


@pytest_asyncio.fixture
async def open_to_loopback(tmp_path: Path) -> AsyncIterator[Node]:
    """Its list names registries on loopback: what is tried there stands for a registry in the internet."""
    async with docker_provider(tmp_path / "open", settings("*", "127.0.0.1:*/*")) as node:
        yield node


async def preflight(node: Node, image: str) -> PreflightAnswer:
    """What is told to a stranger before he pays."""
    asked = request(cpu=500, ram=64, network="none")
    message = PreflightRequest(
        job_id=new_id(), request=replace(asked, params=replace(asked.params, image_id=image)), price="1"
    )
    return await node.services.compute_provider.preflights.answer(SERVICE_PROVIDER, message)


async def test_thirty_tricks_with_names_are_refused_on_both_sides(strict: Node) -> None:
    async with strict.client() as client:
        for name in NO_NAMES:
            with pytest.raises(InvalidInput):
                parse_image(name)
            body = request_body("true")
            body["params"]["image_id"] = name
            answer = await client.post("/api/v1/run/request-service", json=body)
            assert answer.status_code == 400, (name, answer.text)
            _, told = await ask(strict, image=name)  # a peer that does not look
            assert not told.accepted, name


async def test_nobody_in_the_providers_network_is_asked_for_an_image(strict: Node) -> None:
    connections: list[object] = []

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as inner:
        port = inner.sockets[0].getsockname()[1]
        for host in INNER_HOSTS:
            image = f"{host.format(port=port)}/team/x:1"
            answer = await preflight(strict, image)
            assert (answer.possible, answer.kind) == (False, "request"), image
            assert "job.image_allow" in answer.reason
            _, paid = await ask(strict, image=image)
            assert not paid.accepted, image
        with socket.create_connection(("127.0.0.1", port)):
            pass  # it does listen
        async with asyncio.timeout(60):
            while not connections:
                await asyncio.sleep(0.01)
    assert len(connections) == 1


@pytest.mark.parametrize("leads_to", ["10.1.2.3", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "the machine"])
async def test_a_public_name_that_leads_inside_is_refused_before_any_payment(
    strict: Node, monkeypatch: pytest.MonkeyPatch, leads_to: str
) -> None:
    """Also one of its addresses is enough, and a public address of the machine itself."""
    public = "93.184.216.34"
    if leads_to == "the machine":
        leads_to = "93.184.216.35"
        monkeypatch.setattr("dms.adapters.executors.engine_images.own_addresses", lambda: frozenset({leads_to}))

    with monkeypatch.context() as patched:
        patched.setattr("dms.lookups.system_addresses", lambda _: [public, leads_to])
        answer = await preflight(strict, "registry.example.org/x")
    assert (answer.possible, answer.kind) == (False, "image")
    assert "inner network" in answer.reason


async def test_a_name_that_can_not_be_looked_up_is_not_left_to_the_engine(strict: Node) -> None:
    answer = await preflight(strict, "registry.example.invalid/x")
    assert (answer.possible, answer.kind) == (False, "image")
    assert "can't be looked up" in answer.reason


@pytest.fixture
def inner_service() -> Iterator[Registry]:
    """It is no registry, and answers everybody with what is nobody's business outside."""
    with serve_registry() as served:
        served.trouble = lambda _: Trouble(401, f'{{"errors":[{{"message":"{SECRET}"}}]}}'.encode())
        yield served


def answers(inner: str) -> dict[str, Trouble]:
    """Of a registry that a stranger has, which sends the engine on, or of an inner service itself."""
    telling = [b'{"errors":[{"code":"%s","message":"%s"}]}', b"<html>%s%s</html>"]
    bodies = {f"{status} {number}": Trouble(status, telling[number] % (b"DENIED", SECRET.encode()))
              for status in (400, 401, 403, 404, 429, 500, 503) for number in range(2)}  # fmt: skip
    realm = f'Bearer realm="http://{inner}/admin",service="{SECRET}"'
    return bodies | {
        "sent on for a token": Trouble(401, headers=(("WWW-Authenticate", realm),)),
        "sent on": Trouble(307, headers=(("Location", f"http://{inner}/v2/admin/manifests/1"),)),
    }


async def test_what_an_inner_service_answers_is_in_the_providers_log_alone(
    open_to_loopback: Node, registry: Registry, inner_service: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dms.adapters.executors.engine_words")
    node, sentences = open_to_loopback, (NOT_GIVEN, TROUBLE)
    for number, (name, trouble) in enumerate(answers(inner_service.address).items()):
        registry.trouble = lambda _, trouble=trouble: trouble  # type: ignore[misc]
        image = f"{registry.address}/{number}/x:1"
        told = await preflight(node, image)
        assert told.reason.removeprefix(f"image {image} can't be pulled: ") in sentences, name
        _, reason = await end_of(node, await accepted(node, image=image))
        assert reason.removeprefix(f"image {image} can't be pulled: ") in sentences, name
    assert any("/admin" in path for path in inner_service.asked), "the engine does go where a registry sends it"
    assert SECRET in caplog.text
    recorded = await node.log.read(0, 10_000)
    assert any(isinstance(one.event, Deployment.Failed) for one in recorded)
    assert SECRET not in repr(recorded)
    assert SECRET not in repr(node.services.refusals.newest())


async def test_the_digest_of_what_ran_is_recorded(open_to_loopback: Node, registry: Registry) -> None:
    digest = registry.publish("nunet/named", "1")
    job_id = await accepted(open_to_loopback, image=f"{registry.address}/nunet/named:1")
    await end_of(open_to_loopback, job_id)
    pulled = [one.event for one in await open_to_loopback.log.read(0, 10_000, stream=f"{Deployment.KIND}-{job_id}")]
    assert [event.digest for event in pulled if isinstance(event, Deployment.ImagePulled)] == [digest]


def test_names_that_are_refused_are_more_than_thirty() -> None:
    assert len(NO_NAMES) >= 30
