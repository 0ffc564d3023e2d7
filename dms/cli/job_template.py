"""Descriptions of jobs to start from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SCHEMA_PATH = "/schemas/job.json"

TEMPLATES: Mapping[str, str] = {
    "ml-cpu": """\
# A training on the CPU. Its data is fetched into /workspace before it starts; what it leaves in
# /workspace/results comes back (nunet job results).
service_type: ml-training-cpu
params:
  image_id: registry.example.com/me/train:1
  machine_type: cpu
  arguments: [python, train.py, --epochs, "10"]
constraints:
  complexity: Low # Low, Moderate or High: it decides on the price
  cpu: 2000 # MHz, over all cores
  ram: 4000 # MB
  time: 30 # minutes, then it is stopped
max_ntx: 10 # the most that it may cost
""",
    "ml-gpu": """\
# A training on GPUs. Its data is fetched into /workspace before it starts; what it leaves in
# /workspace/results comes back (nunet job results).
service_type: ml-training-gpu
params:
  image_id: registry.example.com/me/train:1-cuda
  machine_type: gpu
  arguments: [python, train.py, --epochs, "10"]
constraints:
  complexity: Moderate # Low, Moderate or High: it decides on the price
  cpu: 4000 # MHz, over all cores
  ram: 16000 # MB
  gpus: 1
  vram: 8000 # MB, of each GPU
  time: 60 # minutes, then it is stopped
max_ntx: 50 # the most that it may cost
""",
    "shell": """\
# A few lines of shell.
service_type: ml-training-cpu
params:
  image_id: debian:13-slim
  machine_type: cpu
  arguments:
    - sh
    - -c
    - |
      uname -a
      echo done > /workspace/done.txt
constraints:
  complexity: Low
  cpu: 500 # MHz, over all cores
  ram: 500 # MB
  time: 5 # minutes, then it is stopped
max_ntx: 1 # the most that it may cost
""",
}


def template(name: str, url: str, *, as_json: bool, in_one_line: bool = False) -> str:
    """url: of the daemon, which serves the schema."""
    schema = url + SCHEMA_PATH
    if not as_json:
        return f"# yaml-language-server: $schema={schema}\n{TEMPLATES[name]}"
    from dms.cli.yaml_text import parse

    described: dict[str, Any] = {"$schema": schema, **parse(TEMPLATES[name])}
    return json.dumps(described, indent=None if in_one_line else 2, ensure_ascii=False) + "\n"
