"""`nunet config`, and settings on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.nunet import nunet


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


def test_config_check_points_at_the_fault(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"rest": {\n  "port": 99999}}')
    result = nunet("config", "check", "--config", str(config))
    assert result.exit_code == 2
    assert f"{config}:2:11" in result.stderr
