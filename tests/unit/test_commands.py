"""A command loads, decides, saves and answers. What follows from it is begun by reactors, which the log wakes."""

from __future__ import annotations

import ast

from tests.fixtures.commands import Classes, Method, beside_deciding, commands, reached_by

SHARED_LOOK = "a look before the decision, which those who come together share"
FOR_THE_ANSWER = "the reactor does it whether or not its caller waits, who wants to know what came of it"
NOT_RECORDED = "runs a container of the DMS's own, whose end its caller waits for; of it nothing is recorded"
ASKED_AGAIN = "its caller wants to know whether the peer has it; when nobody waits, the reactor asks"
ASKED_BEFORE = "its answer is what is decided on; a place that the peer keeps for nobody ends by itself"
BESIDE_DECIDING: dict[tuple[str, str], str] = {
    ("EngineWatch.ping", "asyncio.create_task"): SHARED_LOOK,
    ("ProviderSearch._ping", "asyncio.create_task"): SHARED_LOOK,
    ("SandboxWatch.trial", "asyncio.create_task"): SHARED_LOOK,
    ("Erasures.erase", "await tried behind its save"): FOR_THE_ANSWER,
    ("Erasures.erase", "await long_work(holding, self._data_dir, words) behind its save"): FOR_THE_ANSWER,
    ("MlImages._follow", "self._executor.create"): NOT_RECORDED,
    ("MlImages._follow", "self._executor.prepare"): NOT_RECORDED,
    ("MlImages._follow", "self._executor.start"): NOT_RECORDED,
    ("MlImages._run", "self._executor.remove"): NOT_RECORDED,
    ("Preflight._ask", "self._network.request"): ASKED_BEFORE,
    ("Transfers.ask", "self._network.request"): ASKED_AGAIN,
    ("Transfers.offer", "await self.ask(transfer) behind its save"): ASKED_AGAIN,
}


def test_no_command_begins_an_effect() -> None:
    classes = Classes()
    methods = {method for command in commands() for method in reached_by(command, classes)}
    found = {(str(method), what) for method in methods for what in beside_deciding(classes.methods[method])}
    assert not found - BESIDE_DECIDING.keys(), "the caller may be gone by then: let a reactor do it"
    assert not BESIDE_DECIDING.keys() - found, "no command does that any more"


def test_the_commands_of_users_and_of_peers_are_found() -> None:
    found = commands()
    assert Method("ServiceProvider", "terminate") in found  # of a handler
    assert Method("ServiceProvider", "clear_default_provider") in found  # records by another service
    assert Method("DeviceService", "see_gpus") in found  # by a local name
    assert Method("ComputeProvider", "on_terminate") in found  # served by the daemon
    assert Method("Transfers", "_on_offer") in found  # served by itself
    assert Method("Transfers", "waiting") not in found  # records nothing
    assert Method("RunContainers", "react") not in found


def test_the_rule_would_catch_an_effect_a_task_and_a_wait_behind_the_save() -> None:
    source = """
async def stop(self, job_id):
    deployment = self._log.load(Deployment, job_id)
    await self._look()
    await self._log.save(deployment)
    self._tasks.append(asyncio.create_task(self._stop(job_id)))
    await self._executor.stop(job_id)
    return deployment
"""
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.AsyncFunctionDef)
    assert beside_deciding(node) == {
        "asyncio.create_task", "self._executor.stop", "await self._executor.stop(job_id) behind its save",
    }  # fmt: skip
