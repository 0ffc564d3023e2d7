"""What a job does and prints, as text."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dms.cli.text import output_line

PROGRESS = "log-progress"


def progress(frame: Mapping[str, Any]) -> str:
    """An action as a line for people."""
    message = frame.get("message")
    text = "" if message is None else message if isinstance(message, str) else json.dumps(message)
    return f"{time.strftime('%H:%M:%S')} {frame['action']} {text}".rstrip()


def log_token(job: Mapping[str, Any]) -> str:
    """Knowing the job's own address of its output is the right to read it."""
    return str(parse_qs(urlsplit(job["log_url"]).query)["token"][0])


def print_line(stream: str, text: str, end: str = "\n") -> None:
    """A line of a job's output, on the stream that it came from."""
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(output_line(text, terminal=target.isatty()) + end)
    target.flush()
