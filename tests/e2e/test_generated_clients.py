"""Clients that are generated from the description work against a real daemon: they onboard, ask and list."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.fixtures.dms import Dms, pair, request_body
from tests.fixtures.plain_http import NO_TLS

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[1] / "fixtures" / "generated_clients"
BIN = Path(sys.executable).parent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Dms, Dms]]:
    settings = {"job__executor": "process", "job__allow_process_for_peers": "true"}
    async with pair(tmp_path_factory.mktemp("pair"), **settings) as both:
        yield both


def run(*command: object, folder: Path) -> str:
    """What it prints. The tools find each other on the PATH, as in an environment that is activated."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def openapi_generator(description: Path, folder: Path) -> None:
    options = ["-g", "python", "--package-name", "dms_client", "-o", folder]
    run("openapi-generator-cli", "generate", "-i", description, *options, folder=folder)


def openapi_python_client(description: Path, folder: Path) -> None:
    options = ["--output-path", folder / "dms_client", "--meta", "none"]
    run("openapi-python-client", "generate", "--path", description, *options, folder=folder)


@pytest.mark.parametrize("generate", [openapi_generator, openapi_python_client])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_generated_client_onboards_asks_and_lists(
    dmses: tuple[Dms, Dms], tmp_path: Path, generate: Any
) -> None:
    sp, cp = dmses
    async with httpx.AsyncClient(timeout=120, verify=NO_TLS) as client:
        description = (await client.get(f"{sp.url}/openapi.json")).text
    (tmp_path / "openapi.json").write_text(description)
    client_folder = tmp_path / "client"
    client_folder.mkdir()
    await asyncio.to_thread(generate, tmp_path / "openapi.json", client_folder)

    body = request_body("true")
    body["constraints"] = {name.lower(): value for name, value in body["constraints"].items()}
    script = SCRIPTS / f"with_{generate.__name__}.py"
    told = await asyncio.to_thread(run, sys.executable, script, sp.url, json.dumps(body), folder=client_folder)

    found = json.loads(told.splitlines()[-1])
    assert found["memory"] > 0
    assert found["provider"] == (await cp.get("/peers/self"))["ID"]
    assert found["status"].rpartition(".")[2].casefold() == "awaiting"
    assert found["job"] in found["listed"]
    assert found["topics"] == ["job.service_requested"]
    assert found["providers"] == 2
    assert found["refusal"] == 404
    assert found["unknown_word"] == "refused"
