"""`nunet config`, and settings on the command line."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from dms.adapters.p2p.addresses import read_bootstrap, remark_on_target
from dms.adapters.p2p.identity import Identity
from dms.bootstrap import build
from dms.config import load
from dms.errors import ConfigError
from tests.unit.cli.nunet import nunet

ORIGINALS = (  # its own bootstrap nodes
    "QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP",
    "Qmf16N2ecJVWufa29XKLNyiBxKWqVPNZXjbL3JisPcGqTw",
    "QmTkWP72uECwCsiiYDpCFeTrVeUM9huGTPsg3m6bHxYQFZ",
)


def test_config_show_says_where_each_value_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"rest": {"port": 9998},\n "nats": {"url": "nats://user:secret@host:4222"}}')
    result = nunet("config", "show", "--config", str(config), "-o", "json", DMS_REST_ADDR="::1")
    shown = {row["setting"]: row for row in json.loads(result.stdout)}
    assert shown["rest.port"] == {"setting": "rest.port", "value": 9998, "from": f"file {config}:1"}
    assert shown["rest.addr"]["from"] == "env DMS_REST_ADDR"
    assert shown["p2p.mdns"]["from"] == "default"
    assert "secret" not in result.output


def test_config_show_says_that_a_secret_is_set_but_not_which() -> None:
    result = nunet("config", "show", "-o", "json", DMS_NATS_PASSWORD="open-sesame")
    shown = {row["setting"]: row for row in json.loads(result.stdout)}
    assert shown["nats.password"] == {"setting": "nats.password", "value": "***", "from": "env DMS_NATS_PASSWORD"}
    assert shown["nats.token"]["value"] == ""
    assert "open-sesame" not in result.output


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    result = nunet("run", "--set", "nats.token=open-sesame")
    assert result.exit_code == 2
    assert "nats.token_file" in result.stderr
    assert "open-sesame" not in result.output


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"rest": {"addr": "127.0.0..1"}}, "rest.addr"),
        ({"p2p": {"listen_address": ["/ip4/127.0.0..1/tcp/1"]}}, "'/ip4/127.0.0..1/tcp/1' is not a multiaddr"),
        ({"p2p": {"listen_address": ["/dns4/x/tcp/1"]}}, "Can't listen on '/dns4/x/tcp/1'"),
        ({"p2p": {"announce_address": ["/ip4/1.2.3/tcp/1"]}}, "'/ip4/1.2.3/tcp/1' is not a multiaddr"),
    ],
)
def test_config_check_finds_addresses_that_are_none(tmp_path: Path, section: dict[str, object], says: str) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps(section))
    result = nunet("config", "check", "--config", str(config))
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"eventlog": {"url": "postgresql://me@host/dms"}}, "eventlog.url"),
        ({"rest": {"addr": "0.0.0.0"}}, "must not be sent in the clear"),
        ({"rest": {"tls_cert": "/x"}}, "belong together"),
        ({"rest": {"tls_cert": "/no/such", "tls_key": "/no/such"}}, "rest.tls_cert /no/such"),
        ({"p2p": {"bootstrap_peers": ["/ip4/192.0.2.1/tcp/1"]}}, "is not a peer"),
        ({"job": {"resolver": "127.0.0.1"}}, "job.resolver"),
        ({"job": {"network_range": "8.8.8.0/24"}}, "job.network_range"),
        ({"job": {"sandbox_accept": ["nope"]}}, "job.sandbox_accept"),
        ({"job": {"input_networks": ["zzz"]}}, "job.input_networks"),
        ({"funding": {"check": "ledger"}}, "funding.rpc_url"),
        ({"funding": {"check": "ledger", "rpc_url": "http://[::/", "chain_id": 1}}, "funding.rpc_url"),
        ({"nats": {"url": "http://x"}}, "nats.url"),
        ({"nats": {"url": "nats://x", "token_file": "/no/such"}}, "nats.token_file"),
    ],
)
async def test_what_would_end_the_start_is_found_by_config_check_and_makes_nothing(
    tmp_path: Path, section: dict[str, object], says: str
) -> None:
    config, data = tmp_path / "c.json", tmp_path / "data"
    config.write_text(json.dumps({"general": {"work_dir": str(data)}} | section))
    result = await asyncio.to_thread(nunet, "config", "check", "--config", str(config))
    assert result.exit_code == 2
    assert says in result.stderr
    with pytest.raises(ConfigError, match=re.escape(says)):
        await build(load(env={}, file=config).settings)
    assert not data.exists()


def test_config_check_points_at_the_fault(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"rest": {\n  "port": 99999}}')
    result = nunet("config", "check", "--config", str(config))
    assert result.exit_code == 2
    assert f"{config}:2:11" in result.stderr


@pytest.mark.parametrize(
    "peer",
    [
        *(f"/dnsaddr/bootstrap.p2p.nunet.io/p2p/{peer_id}" for peer_id in ORIGINALS),
        f"/ip4/192.0.2.1/tcp/6763/p2p/{ORIGINALS[0]}",
        f"/ip4/192.0.2.1/udp/6763/quic/p2p/{ORIGINALS[0]}",
    ],
)
def test_bootstrap_peers_of_the_original_are_left_out_with_a_word(tmp_path: Path, peer: str) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"p2p": {"bootstrap_peers": [peer]}}))
    result = nunet("config", "check", "--config", str(config))
    assert result.exit_code == 0
    assert f"bootstrap peer {peer} is not used: it is a node of the original network" in result.stderr
    assert read_bootstrap(peer) is None


@pytest.mark.parametrize("target", ["gpu.example.org", "12D3KooW", ORIGINALS[0]])
def test_a_target_that_is_no_peer_of_ours_is_remarked_on(tmp_path: Path, target: str) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"job": {"target_peer": target}}))
    result = nunet("config", "check", "--config", str(config))
    assert result.exit_code == 0
    assert f"job.target_peer '{target}' is no peer of this network" in result.stderr


def test_a_target_that_is_a_peer_needs_no_remark() -> None:
    assert not remark_on_target("")
    assert not remark_on_target(Identity.generate().peer_id)


@pytest.mark.parametrize("command", [("config", "check"), ("job", "list")])
def test_the_caret_stands_under_the_fault(tmp_path: Path, command: tuple[str, ...]) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"rest": {\n  "port" 99999}}')
    _, shown, caret = nunet(*command, "--config", str(config)).stderr.splitlines()[:3]
    assert shown == '      "port" 99999}}'
    assert caret.index("^") == shown.index("99999")


@pytest.mark.parametrize(
    ("text", "says"), [("", "holds no token"), ("\n", "holds no token"), (None, "No such file or directory")]
)
def test_a_token_file_without_a_token_is_wrong_usage(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "team.token"
    if text is not None:
        file.write_text(text)
    result = nunet("job", "list", "--token-file", str(file), DMS_URL="http://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: the token file {file} ")
    assert says in result.stderr
