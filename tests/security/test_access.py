"""Who may do what: other users of this machine, other hosts, and the clients that have tokens of each role."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets

from dms.adapters.http.routes import Route
from dms.adapters.http.server import WEBSOCKETS
from dms.config import Rest
from dms.domain.access import Caller
from dms.domain.api_token import Role
from dms.domain.directory import Offering, Provider
from dms.domain.event import new_id
from dms.errors import ConfigError, Conflict
from dms.socket_owner import End, owner_of
from tests.fixtures.dms import user_of_docker_group
from tests.fixtures.live_folders import files_with
from tests.fixtures.netns import other_host
from tests.fixtures.other_users import NOBODY, ask, socket_of
from tests.fixtures.ports import free_port
from tests.integration.http.node import PROVIDER, running_node
from tests.security.access_world import ALL_ROUTES, API, World, filled, world

__all__ = ["world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


def refused_to(caller: Caller) -> list[Route]:
    return [route for route in ALL_ROUTES if not caller.meets(route.needs)]


CALLERS = {
    "": Caller(local=True, uid=NOBODY),
    "team-a": Caller(role=Role.SPD, client="team-a", local=True),
    "machine": Caller(role=Role.CPD, client="machine", local=True),
    "auditor": Caller(role=Role.READ, client="auditor", local=True),
}


# --- what each role may ----------------------------------------------------------------------------
@pytest.mark.parametrize("client", CALLERS)
async def test_what_a_route_needs_is_asked_for_at_each_of_them_and_what_is_refused_changes_nothing(
    world: World, client: str
) -> None:
    refused, head = refused_to(CALLERS[client]), world.node.log.head
    for route in refused:
        answer = await world.ask(client, route.method, filled(route.address, world.jobs["team-a"]))
        assert answer.status == (403 if client else 401), (route.method, route.address, answer.body)
    assert len(refused) > 20
    assert world.node.log.head == head


async def test_nobody_changes_anything_and_reads_nothing_of_a_person(world: World) -> None:
    """Of what nobody may ask nothing changes anything, and the answers tell of no job, token or peer."""
    nobody = CALLERS[""]
    open_ones = [route for route in ALL_ROUTES if nobody.meets(route.needs)]
    changing = {(route.method, route.path) for route in open_ones if route.method != "GET" or route.changes}
    refusing = {("POST", "/vm/start-default"), ("POST", "/vm/start-custom")}  # answered with 501, whoever asks
    assert changing - refusing == {("POST", "/session"), ("DELETE", "/session")}
    head, secrets = world.node.log.head, [*world.jobs.values(), *world.tokens.values(), PROVIDER]
    for route in open_ones:
        answer = await world.ask("", route.method, filled(route.address, new_id()))
        assert not any(secret.encode() in answer.body for secret in secrets), route.path
    assert world.node.log.head == head


# What the served description may name without asking who calls: a new operation that is not here must refuse strangers.
OPEN_TO_ALL_OF_THE_MACHINE = {
    *(("GET", f"{prefix}/{page}") for prefix in ("", API) for page in (
        "livez", "readyz", "openapi.json", "asyncapi.json", "postman.json", "schemas/job.json",
    )),
    *(("GET", f"{API}/{name}") for name in (
        "capacity", "device/status", "gpu/capacity", "gpu/status", "ml-images", "onboarding/address/new",
        "onboarding/provisioned", "projections", "telemetry/free",
    )),  # what concerns nobody
    *(("GET", f"{API}/jobs/{{job_id}}/{name}") for name in (
        "logs", "output", "output/download", "output/search",
    )),  # whose address has a secret of its own
    *(("GET", f"{API}/peers/{name}") for name in ("log", "shell", "ws")),  # answered with 501, whoever asks
    *(("POST", f"{API}/vm/{name}") for name in ("start-custom", "start-default")),  # the same
    *((method, f"{API}/session") for method in ("GET", "POST", "DELETE")),  # who am I, log in, log out
    ("GET", "/metrics"),
}  # fmt: skip
UPGRADE = {
    "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def operations(description: dict[str, Any]) -> list[tuple[str, str]]:
    """Method and path of each."""
    methods = {"get", "put", "post", "delete", "patch"}
    return [(m.upper(), path) for path, item in description["paths"].items() for m in item if m in methods]


async def test_whatever_the_description_names_refuses_who_is_nobody(world: World) -> None:
    """By the document that clients are given, not by our own tables; with a body and without."""
    described = (await world.ask("", "GET", "/openapi.json")).json
    head, open_ones = world.node.log.head, set()
    for method, path in operations(described):
        filled_in = re.sub(r"{(\w+)}", lambda found: world.jobs["team-a"] if found[1] == "job_id" else "x", path)
        for text in (None, "{}"):
            answer = await world.ask("", method, filled_in, text and msgspec.json.decode(text))
            if answer.status == 426:  # it speaks websocket only
                answer = await world.ask("", method, filled_in, headers=UPGRADE)
            if answer.status != 401:
                open_ones.add((method, path))
    assert open_ones == OPEN_TO_ALL_OF_THE_MACHINE
    assert world.node.log.head == head


async def test_who_is_nobody_is_told_of_this_machine_and_makes_none_of_the_past(world: World) -> None:
    provider = Provider(PROVIDER)
    provider.advertise(Offering(channel="nunet-test", online=True, onboarded=True), ())
    await world.node.log.save(provider)
    told = (await world.ask("", "GET", f"{API}/capacity")).json
    assert all(row["own"] for row in told["providers"])
    assert told["network"]["providers"] == 1
    for path in ("capacity", "device/status"):
        assert (await world.ask("", "GET", f"{API}/{path}?as_of=1")).status == 401
        for client in ("team-a", "machine", "auditor", "ops"):
            assert (await world.ask(client, "GET", f"{API}/{path}?as_of=1")).status == 200
    shown = (await world.ask("team-a", "GET", f"{API}/capacity")).json["providers"]
    assert PROVIDER in [row["provider"] for row in shown]


async def test_roles_are_what_they_say() -> None:
    needs = {(route.method, route.path): route.needs for route in ALL_ROUTES}
    may = {role: {key for key, need in needs.items() if Caller(role=role).meets(need)} for role in Role}
    assert may[Role.ADMIN] == needs.keys()
    offering, asking = ("POST", "/onboarding/onboard"), ("POST", "/run/request-service")
    erasing, exporting = ("POST", "/erasures"), ("GET", "/events/export")
    assert {role for role in Role if offering in may[role]} == {Role.ADMIN, Role.CPD}
    assert {role for role in Role if asking in may[role]} == {Role.ADMIN, Role.SPD}
    assert {role for role in Role if erasing in may[role]} == {Role.ADMIN}
    assert {role for role in Role if exporting in may[role]} == {Role.ADMIN, Role.READ}
    changing = {key for key in may[Role.READ] if key[0] != "GET"}
    assert changing - {("POST", "/vm/start-default"), ("POST", "/vm/start-custom")} == {
        ("POST", "/session"), ("DELETE", "/session"),
    }  # fmt: skip
    read_by_get = [route for route in ALL_ROUTES if route.changes and Caller(role=Role.READ).meets(route.needs)]
    assert [route.path for route in read_by_get] == ["/transactions"], "whose one change asks for more"


async def test_a_reader_can_hide_no_transactions(world: World) -> None:
    answer = await world.ask("auditor", "GET", f"{API}/transactions?clean_tx=done")
    assert answer.status == 403, answer.body


@pytest.mark.parametrize("socket", WEBSOCKETS, ids=lambda socket: socket.address)
async def test_a_websocket_needs_what_it_says(world: World, socket: Any) -> None:
    for client, caller in CALLERS.items():
        if caller.meets(socket.needs):
            continue
        with pytest.raises(websockets.InvalidStatus) as refused:
            await world.connect(client, socket.address)
        assert refused.value.response.status_code == (403 if client else 401), client


# --- who is on this machine ------------------------------------------------------------------------
@pytest.mark.parametrize("uid", [0, NOBODY])
async def test_the_kernel_says_whose_a_connection_is_until_it_is_closed(uid: int) -> None:
    for host in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as server, socket_of(uid, family) as client:
            client.setblocking(True)
            client.connect(server.getsockname())
            with server.accept()[0] as accepted:
                peer, own = End(*accepted.getpeername()[:2]), End(*accepted.getsockname()[:2])
                assert owner_of(peer, own) == uid
                client.shutdown(socket.SHUT_WR)
                assert owner_of(peer, own) == uid, "it only sends no more"
                client.close()
                assert owner_of(peer, own) is None, "the kernel now says 0"


async def test_of_a_connection_from_elsewhere_no_user_is_told() -> None:
    assert owner_of(End("192.0.2.1", 9), End("192.0.2.2", 10)) is None


async def test_old_clients_of_the_operator_go_on_without_a_token(world: World) -> None:
    async with world.node.client() as client:
        assert (await client.get(f"{API}/jobs")).status_code == 200
        assert (await client.get(f"{API}/session")).json() == {"role": "admin", "client": "", "by": "user"}


async def test_the_group_nunet_is_the_operator(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another group's name, since this machine may have none of that one: Debian's games is in its own."""
    monkeypatch.setattr("dms.operators.GROUP", "games")
    member, other, unknown = pwd.getpwnam("games").pw_uid, pwd.getpwnam("man").pw_uid, 61_234
    assert (await world.ask("", "GET", f"{API}/jobs", uid=member)).status == 200
    assert (await world.ask("", "GET", f"{API}/jobs", uid=other)).status == 401
    assert (await world.ask("", "GET", f"{API}/jobs", uid=unknown)).status == 401


async def test_a_token_counts_before_the_user_and_a_wrong_one_is_refused_to_root_too(world: World) -> None:
    assert (await world.ask("auditor", "POST", f"{API}/device/status", {"is_available": False}, uid=0)).status == 403
    wrong = world.tokens["ops"][:-1] + ("A" if world.tokens["ops"][-1] != "A" else "B")
    for text in (wrong, "dms_", "x" * 300, ""):
        answer = await ask(world.address, "GET", f"{API}/jobs", uid=0, headers={"authorization": f"Bearer {text}"})
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert text not in answer.body.decode() or not text


async def test_the_command_says_what_to_do(world: World, tmp_path: Path) -> None:
    env = {**os.environ, "DMS_URL": world.node.url, "HOME": str(tmp_path)}
    command = [*user_of_docker_group(), sys.executable, "-m", "dms.cli", "job", "list"]

    async def run(**more: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run, command, env=env | more, capture_output=True, text=True, timeout=300, check=False
        )

    refused = await run()
    assert refused.returncode == 4
    assert "--token-file" in refused.stderr
    assert "group nunet" in refused.stderr
    allowed = await run(DMS_TOKEN=world.tokens["team-a"])
    assert allowed.returncode == 0, allowed.stderr
    assert world.jobs["team-a"] in allowed.stdout
    assert world.jobs["team-b"] not in allowed.stdout


# --- tokens and sessions -----------------------------------------------------------------------------
async def test_a_token_is_in_force_until_it_is_revoked_and_its_secret_is_nowhere(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        made = (await ask(("127.0.0.1", node.port), "POST", f"{API}/tokens", {"name": "a", "role": "read"}, uid=0)).json
        world = World(node)
        world.tokens["a"] = made["token"]
        assert (await world.ask("a", "GET", f"{API}/jobs")).status == 200
        login = await world.ask("", "POST", f"{API}/session", {"token": made["token"]})
        cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(login.headers["set-cookie"].split("; "))
        assert (await world.ask("", "GET", f"{API}/jobs", headers=cookie)).status == 200
        foreign = cookie | {"origin": "https://evil.example"}
        assert (await world.ask("", "GET", f"{API}/jobs", headers=foreign)).status == 403
        with pytest.raises(Conflict, match="another role"):
            await node.services.tokens.create("a", Role.ADMIN)
        async with world.connect("a", "/api/v1/live/ws") as live:
            revoked = await ask(world.address, "DELETE", f"{API}/tokens/{made['token_id']}", uid=0)
            assert revoked.status == 200
            await asyncio.wait_for(live.wait_closed(), 120)
            assert live.close_code == 1008, "what is open ends with it"
        assert (await world.ask("a", "GET", f"{API}/jobs")).status == 401
        assert (await world.ask("", "GET", f"{API}/jobs", headers=cookie)).status == 401, "its sessions end with it"
        listed = (await ask(world.address, "GET", f"{API}/tokens", uid=0)).json["items"]
        assert [(row["name"], row["state"]) for row in listed] == [("a", "revoked")]
        short = await node.services.tokens.create("short", Role.READ, days=1e-9)
        assert node.services.tokens.find(str(short)) is None
    assert files_with(tmp_path, made["token"].rpartition("_")[2]) == []


async def test_a_session_is_of_no_use_to_another_user_of_this_machine(world: World) -> None:
    """Whose server on another port of the same name gets the browser's cookies."""
    login = await world.ask("", "POST", f"{API}/session", {"token": world.tokens["ops"]})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    other = pwd.getpwnam("man").pw_uid
    assert (await world.ask("", "GET", f"{API}/jobs", headers=cookie)).status == 200
    assert (await world.ask("", "GET", f"{API}/jobs", headers=cookie, uid=other)).status == 401
    assert (await world.ask("", "GET", f"{API}/session", headers=cookie, uid=0)).json["by"] == "user"
    assert (await world.ask("", "DELETE", f"{API}/session", headers=cookie, uid=other)).status == 200
    assert (await world.ask("", "GET", f"{API}/jobs", headers=cookie)).status == 200, "not even to end it"


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder to which others have a way, as they have not to pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
async def test_a_token_is_made_before_the_first_start_for_the_user_who_owns_the_data(
    reachable: Path, tmp_path: Path
) -> None:
    folder, file, owner = reachable / "data", tmp_path / "ops.token", 61_235
    env = {
        **os.environ, "DMS_URL": "", "DMS_REST_PORT": str(free_port()), "DMS_GENERAL_DATA_DIR": str(folder),
        "DMS_GENERAL_WORK_DIR": str(folder),
    }  # fmt: skip
    made = await asyncio.to_thread(made_offline, folder, owner, env, file)
    assert made.returncode == 0, made.stderr
    assert {path.stat().st_uid for path in folder.iterdir()} == {owner}, "the service could not start with root's files"
    assert file.stat().st_mode & 0o777 == 0o600
    async with running_node(folder) as node:
        found = node.services.tokens.find(file.read_text())
        assert found is not None
        assert (found.name, found.role) == ("ops", Role.ADMIN)
        again = await asyncio.to_thread(made_offline, folder, owner, env, tmp_path / "second")
        assert again.returncode == 5, again.stderr  # its log is in use
        assert not (tmp_path / "second").exists()


def made_offline(folder: Path, owner: int, env: dict[str, str], file: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    os.chown(folder, owner, owner)
    command = [sys.executable, "-m", "dms.cli", "token", "create", "ops", "--role", "admin", "--to", str(file)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


async def test_tokens_are_known_after_a_restart_and_everybody_needs_one_where_that_is_wanted(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        token = str(await node.services.tokens.create("ops", Role.ADMIN))
    async with running_node(tmp_path, Rest(require_token=True)) as node:
        world = World(node)
        world.tokens["ops"] = token
        assert (await world.ask("", "GET", f"{API}/capacity", uid=0)).status == 401
        assert (await world.ask("ops", "GET", f"{API}/capacity", uid=0)).status == 200
        login = await world.ask("", "POST", f"{API}/session", {"token": token})
        cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
        assert (await world.ask("", "DELETE", f"{API}/session", headers=cookie)).status == 200
        assert (await world.ask("", "GET", f"{API}/jobs", headers=cookie)).status == 401


# --- other hosts -------------------------------------------------------------------------------------
@pytest.mark.slow
async def test_from_another_network_namespace_nothing_is_read_or_changed_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUNET_DEBUG", "1")  # its routes too
    with other_host() as host:
        async with running_node(tmp_path) as node:
            token = str(await node.services.tokens.create("ops", Role.ADMIN))
            assert await asked_from(host.name, f"http://{host.ours}:{node.port}/livez") == "no answer", "the default"
        exposed = Rest(addr=host.ours, tls_by_proxy=True, requests_a_minute=1_000_000)
        async with running_node(tmp_path, exposed) as node:
            world = World(node)
            world.address = (host.ours, node.port)
            head = node.log.head
            url = f"http://{host.ours}:{node.port}"
            for path, status in (("/livez", "200"), ("/metrics", "401"), (f"{API}/jobs", "401")):
                assert await asked_from(host.name, url + path) == status
            assert await asked_from(host.name, f"{url}{API}/jobs", token) == "200"
            for route in ALL_ROUTES:  # from this host over the other address: root, and yet nobody
                if not Caller().meets(route.needs):
                    path = filled(route.address, new_id())
                    answer = await ask(world.address, route.method, path, uid=0, host=host.ours)
                    assert answer.status == 401, (route.method, route.path)
            assert node.log.head == head


async def asked_from(namespace: str, url: str, token: str = "") -> str:
    """The status that a client in there gets."""
    client = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "q = r.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.stdin.read()} if sys.argv[2] else {})\n"
        "try: print(r.urlopen(q, timeout=60).status)\n"
        "except e.HTTPError as x: print(x.code)\n"
        "except OSError: print('no answer')\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, ["ip", "netns", "exec", namespace, sys.executable, "-c", client, url, "x" if token else ""],
        input=token, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("rest", "missing"),
    [
        (Rest(addr="0.0.0.0", tls_by_proxy=True), "no token"),
        (Rest(addr="::", tls_by_proxy=True), "no token"),
        (Rest(tls_cert="/x"), "belong together"),
        (Rest(tls_cert="/no/such", tls_key="/no/such"), "can't be used"),
    ],
)
async def test_a_start_that_would_let_strangers_in_is_refused_with_the_way_out(
    tmp_path: Path, rest: Rest, missing: str
) -> None:
    with pytest.raises(ConfigError, match=missing):
        async with running_node(tmp_path, rest):
            pass


async def test_a_token_alone_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.services.tokens.create("ops", Role.ADMIN)
    with pytest.raises(ConfigError, match=r"rest\.tls_cert"):
        async with running_node(tmp_path, Rest(addr="0.0.0.0")):
            pass
