"""`nunet usage`: what this machine and the jobs on it use, over the last hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.plot import shows_braille, sparkline
from dms.cli.references import JobReference, job_id_of

_WIDTH = 30  # characters: two minutes each, once an hour is there


def add_to(cli: Group) -> None:
    @command(cli, "usage", "nunet usage\nnunet usage --job @last -o json")
    @click.option("--job", "job", type=JobReference(), metavar="JOB", help="Of this job alone.")
    @pass_state
    def usage(state: State, job: str | None) -> None:
        """Show what this machine and the jobs on it use: CPU, memory and GPUs, with the last hour as curves.

        A restart of the daemon begins anew. With -o json the samples themselves are printed.
        """
        found = state.api().get("/device/usage", job_id=job_id_of(state, job) if job else None)
        if not state.output.for_people:
            state.output.record(found)
            return
        machine = {"job_id": "this machine", "samples": found["machine"]}
        shown = [machine, *found["jobs"]] if found["machine"] else found["jobs"]
        columns = [(name, name) for name in ("JOB", "CORES", "CPU", "MEMORY (MB)", "MEMORY", "GPU (%)", "GPU")]
        state.output.rows([_row(one) for one in shown if one["samples"]], columns, "there are no samples yet")


def _row(of: Mapping[str, Any]) -> dict[str, Any]:
    samples: Sequence[Mapping[str, Any]] = of["samples"]
    cores = [float(sample["cpu_cores"]) for sample in samples if sample["cpu_cores"] is not None]
    memory = [float(sample["memory_mb"]) for sample in samples]
    busiest = [max(used) for sample in samples if (used := _gpus(sample))]
    blocks = shows_braille()
    return {
        "JOB": of["job_id"],
        "CORES": f"{cores[-1]:.2f}" if cores else "",
        "CPU": sparkline(cores, _WIDTH, blocks=blocks),
        "MEMORY (MB)": f"{memory[-1]:.0f}",
        "MEMORY": sparkline(memory, _WIDTH, blocks=blocks),
        "GPU (%)": ", ".join(f"{used:.0f}" for used in _gpus(samples[-1])),
        "GPU": sparkline(busiest, _WIDTH, blocks=blocks),
    }


def _gpus(sample: Mapping[str, Any]) -> list[float]:
    """% of those that tell."""
    return [float(gpu["utilization_percent"]) for gpu in sample["gpus"] if gpu["utilization_percent"] is not None]
