"""The secret of a new wallet goes to who asked, and nowhere else: not to a file, the log, an event, NATS, a list of
processes, a cache or a core file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mnemonic import Mnemonic

from tests.fixtures.dms import Dms
from tests.fixtures.jobs import until
from tests.fixtures.live_folders import contents_below
from tests.fixtures.nats import NatsServer, stored


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.kill9()


@pytest.fixture
def dms(tmp_path: Path, nats: NatsServer) -> Iterator[Dms]:
    made = Dms(tmp_path / "dms", settings={"job.executor": "process", "general.debug": "true", "nats.url": nats.url})
    made.start()
    yield made
    made.end()


async def test_no_secret_is_left_anywhere(dms: Dms, nats: NatsServer) -> None:
    await dms.ready()
    secrets: list[bytes] = []
    listed: list[str] = []
    addresses: list[str] = []
    async with httpx.AsyncClient(base_url=f"{dms.url}/api/v1", timeout=120) as client:
        for query in ("", "?blockchain=cardano", "?blockchain=Cardano&network=mainnet", "?blockchain=ethereum"):
            answer = await client.get(f"/onboarding/address/new{query}")
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            wallet = answer.json()
            assert wallet["address"].startswith("0x" if "ethereum" in query else "addr")
            addresses.append(wallet["address"])
            listed += dms.command_lines()
            if "mnemonic" in wallet:
                words = wallet["mnemonic"].split()
                assert len(words) == 24
                secrets += [" ".join(words[i : i + 4]).encode() for i in range(21)]
                entropy = bytes(Mnemonic("english").to_entropy(wallet["mnemonic"]))
                secrets += [entropy, entropy.hex().encode()]
            else:
                number = wallet["private_key"].removeprefix("0x")
                secrets += [number.encode(), bytes.fromhex(number)]
        for query in ("?blockchain=dogecoin", "?network=moon", "?blockchain=ethereum&network=preprod"):
            refused = await client.get(f"/onboarding/address/new{query}")
            assert (refused.status_code, refused.json()["error"][:14]) == (400, "invalid wallet")
        await dms.onboard(payment_addr=addresses[-1])
    assert resource.prlimit(dms.pid, resource.RLIMIT_CORE) == (0, 0)
    await until(lambda: told(nats, "device.onboarded"))
    assert dms.stop() == 0
    everything = {path.name: data for top in (dms.folder, nats.folder) for path, data in contents_below(top).items()}
    assert {"events.db", "daemon.log", "node.key", "nats.log"} <= set(everything)
    kept = addresses[-1].encode()
    assert any(kept in content for content in everything.values())  # else we look in the wrong place
    everything |= {"processes": "\n".join(listed).encode(), "NATS": str(await stored(nats)).encode()}
    assert {name for name, content in everything.items() for secret in secrets if secret in content} == set()


async def told(nats: NatsServer, topic: str) -> bool | None:
    return topic in str(await stored(nats)) or None
