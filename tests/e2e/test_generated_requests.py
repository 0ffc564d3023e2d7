"""Requests generated from the API's own description (Schemathesis), against a DMS that runs as a process and has a
provider to ask: no 500, no undocumented status, no answer off its schema; state-changing operations included.

`make fuzz` runs the same with 2,000 examples an operation.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.fixtures.dms import Dms, pair, request_body

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))  # an operation
SECONDS = int(os.environ.get("FUZZ_SECONDS", "1500"))
ARGUMENTS = os.environ.get("FUZZ_ARGS", "").split()
CONFIG = Path(__file__).parents[1] / "fuzz.toml"
ONE_JOB = """
[dictionaries.jobs]
values = ["{job_id}"]
[dictionaries.tokens]
values = ["{token}"]

# A job with output, so that not each request for it meets a wrong token. A log that is followed has no end.
[[operations]]
include-path = ["/api/v1/jobs/{{job_id}}/logs"]
[operations.parameters]
"query.follow" = "false"
"path.job_id" = {{ dictionary = "jobs", probability = 0.8 }}
"query.token" = {{ dictionary = "tokens", probability = 0.8 }}

[[operations]]
include-path-regex = "/output"
[operations.parameters]
"path.job_id" = {{ dictionary = "jobs", probability = 0.8 }}
"query.token" = {{ dictionary = "tokens", probability = 0.8 }}

[[operations]]
include-path-regex = "/(request|verification)$"
[operations.parameters]
"path.job_id" = {{ dictionary = "jobs", probability = 0.8 }}
"""


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
async def test_generated_requests_find_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path, job__executor="process", job__allow_process_for_peers="true") as (sp, _):
        config = tmp_path / "schemathesis.toml"
        config.write_text(CONFIG.read_text() + ONE_JOB.format(**await a_job(sp)))
        code, text = await schemathesis(sp, config)
        assert code == 0, text
        health = await sp.get("/readyz")
    assert health["status"] == "ready"
    assert '"action": "request_failed"' not in (sp.folder / "daemon.log").read_text(errors="replace")


async def a_job(sp: Dms) -> dict[str, Any]:
    quote = await sp.post("/run/request-service", request_body("true"))
    job = await sp.get(f"/jobs/{quote['job_id']}")
    return {"job_id": job["job_id"], "token": parse_qs(urlsplit(job["log_url"]).query)["token"][0]}


async def schemathesis(sp: Dms, config: Path) -> tuple[int, str]:
    """Exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{sp.url}/openapi.json",
        "--checks", "all", "--max-examples", str(EXAMPLES), "--continue-on-failure", "--request-timeout", "20",
        *ARGUMENTS,
        cwd=config.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(CONFIG.parents[1])},
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, printed.decode(errors="replace")
