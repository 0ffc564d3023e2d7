"""Every cell of the crash matrix, without Docker and without time; and that none is missing."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pytest

import dms.application
from dms.application.files.receipts import Receipt
from dms.application.ports.executor import Executor
from dms.application.ports.funding import FundingCheck
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import Reactor
from tests.fixtures import fault_points
from tests.fixtures.fault_points import COMMANDS, Phase, Point, point_of
from tests.simulation.matrix.cells import Cell, cells, difference, spread, troubles, uninterrupted
from tests.simulation.matrix.scenarios import SCENARIOS
from tests.simulation.matrix.world import Fault, Strike

pytestmark = pytest.mark.slow

REQUIRED = (Fault.KILLED, Fault.STOPPED, Fault.ENGINE_KILLED, Fault.CUT)
"""Those that `make test` has; `make crash-matrix` has all."""
ELSEWHERE = {"engine: put": "inputs of jobs: tests/e2e/test_inputs.py, with a real engine and a real web server"}


@pytest.mark.parametrize("fault", REQUIRED)
def test_whatever_happens_at_an_effect_all_comes_to_the_same_end(fault: Fault) -> None:
    wanted = list(cells([fault]))
    assert len(wanted) > 150
    found = [trouble for row in spread(wanted) for trouble in troubles(row)]
    assert not found, "\n".join(found)


def test_each_reactor_is_in_the_matrix_before_and_after_its_work() -> None:
    rows = {(cell.strike.point.actor, cell.strike.point.phase) for cell in cells([Fault.KILLED])}
    names = {reactor.name for reactor in _reactors()}
    missing = {(name, phase) for name in names for phase in Phase} - rows
    assert not missing, "no scenario of the crash matrix comes by these: add one"
    assert {name for scenario in SCENARIOS for name in uninterrupted(scenario).reactors} == names
    assert {actor for actor, _ in rows} == names | {COMMANDS}


def test_each_effect_of_a_port_is_in_the_matrix_before_and_after_it() -> None:
    rows = {(cell.strike.point.effect, cell.strike.point.phase) for cell in cells([Fault.KILLED])}
    effects = [f"engine: {name}" for name in (*fault_points.EXECUTOR_EFFECTS, *fault_points.EXECUTOR_STREAMS)]
    missing = {(effect, phase) for effect in effects if effect not in ELSEWHERE for phase in Phase} - rows
    assert not missing, "no scenario of the crash matrix comes by these: add one"


@pytest.mark.parametrize(
    ("port", "known"),
    [
        (Executor, (fault_points.EXECUTOR_EFFECTS, fault_points.EXECUTOR_STREAMS, fault_points.EXECUTOR_READS)),
        (PeerNetwork, (fault_points.NETWORK_EFFECTS, fault_points.NETWORK_STREAMS, fault_points.NETWORK_READS)),
        (FundingCheck, (fault_points.FUNDING_EFFECTS, fault_points.FUNDING_READS)),
    ],
)
def test_whatever_a_port_can_do_has_fault_points_or_is_known_to_only_look(
    port: type, known: Iterable[Iterable[str]]
) -> None:
    told = list(chain.from_iterable(known))
    assert sorted(told) == sorted(
        name for name in vars(port) if not name.startswith("_") and callable_or_property(port, name)
    )


def callable_or_property(port: type, name: str) -> bool:
    return callable(vars(port)[name]) or isinstance(vars(port)[name], property)


def test_both_roles_are_struck_wherever_they_have_the_effect() -> None:
    roles: dict[str, set[str]] = {}
    for cell in cells([Fault.KILLED]):
        roles.setdefault(cell.strike.point.actor, set()).add(cell.strike.role)
    both = {"service provider", "compute provider"}
    for actor in ("erasures", "files that are offered", "files that are received", "ends of transfers", COMMANDS):
        assert roles[actor] == both


def test_a_fault_that_does_not_happen_is_told() -> None:
    never = Strike("service provider", Point(Phase.BEFORE, "nothing", COMMANDS), Fault.KILLED)
    assert difference(Cell(SCENARIOS[0], never)).endswith("the fault did not happen")


def test_an_effect_that_a_crash_makes_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a provider is told that its results are here: a bug that the matrix found is put back."""
    point = point_of("before save deployment.results_delivered (commands)")
    cell = Cell(SCENARIOS[0], Strike("compute provider", point, Fault.KILLED))
    assert not difference(cell)

    async def never(*_: object) -> None: ...

    monkeypatch.setattr(Receipt, "give_again", never)
    assert "keeps archives of job" in difference(cell)


def _reactors() -> Iterator[type[Reactor[Any]]]:
    """All that the application has."""
    for module in pkgutil.walk_packages(dms.application.__path__, "dms.application."):
        importlib.import_module(module.name)
    yield from (cls for cls in Reactor.__subclasses__() if cls.__module__.startswith("dms."))
