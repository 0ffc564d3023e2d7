"""A container that is removed, and whose engine's answer is lost."""

from __future__ import annotations

from pathlib import Path

from dms.adapters.executors.process import ProcessExecutor
from dms.domain.deployment import Deployment
from dms.domain.resources import Resources
from dms.errors import ExecutorUnavailable
from tests.fixtures.provider import accepted, onboard, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import FixedHardware, running_node


class SilentOnce(ProcessExecutor):
    """The real one, but that the answer to its first removal is lost."""

    removed: list[str]

    async def remove(self, job_id: str) -> None:
        await super().remove(job_id)
        self.removed = [*getattr(self, "removed", []), job_id]
        if len(self.removed) == 1:
            raise ExecutorUnavailable("the connection was lost")


async def test_the_memory_of_a_job_that_is_removed_without_the_engines_word_for_it_is_free_again(
    tmp_path: Path,
) -> None:
    async with running_node(
        tmp_path,
        hardware=FixedHardware(),
        runs_for_peers=True,
        executor=lambda node_id: SilentOnce(node_id, tmp_path / "processes"),
    ) as node:
        await onboard(node)
        async with providing(node):
            job_id = await accepted(node, "true", ram=64)
            executor, reservations = node.executor, node.services.device.reservations
            assert isinstance(executor, SilentOnce)
            await wait_for(lambda: hasattr(executor, "removed"))
            assert (found := node.log.load(Deployment, job_id)) is not None
            assert found.ended
            assert await executor.list_jobs() == []
            await wait_for(lambda: reservations.left == Resources())
