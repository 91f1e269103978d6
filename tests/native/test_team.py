"""The threads: plans come and go, callers meet, processes fork, helpers lose their core."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from chainrule.core.graph import Array, Graph, TensorType
from chainrule.core.op import input
from chainrule.core.ops import linear
from chainrule.core.ops.arithmetic import tanh
from chainrule.run.native import team as team_module
from chainrule.run.native.plan import Plan
from chainrule.run.native.team import available_threads, team

pytestmark = pytest.mark.usefixtures("threads")

X = np.random.default_rng(0).standard_normal((150, 150)).astype(np.float32)


def plan(factor: float = 1.0) -> Plan:
    """Three tasks of several tiles that wait for each other."""
    x = input(TensorType(X.shape, X.dtype))
    y = linear.matmul(tanh(linear.matmul(x, x)) * factor, x)
    return Plan(Graph([x], [y]))


def run(made: Plan) -> Array:
    return made([X], [])[0]


def test_plans_come_and_go() -> None:
    expected = run(plan()).tobytes()
    team.set_threads(3)
    for _ in range(60):
        made = plan()
        for _ in range(3):
            assert run(made).tobytes() == expected
        del made


def test_callers_take_turns() -> None:
    expected = [run(plan(factor)).tobytes() for factor in range(3)]
    team.set_threads(2)
    wrong: list[int] = []

    def work(number: int) -> None:
        mine = plan(number)
        wrong.extend(number for _ in range(40) if run(mine).tobytes() != expected[number])

    callers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_one_plan_has_many_callers() -> None:
    made = plan()
    expected = run(made).tobytes()
    team.set_threads(2)
    found: list[bytes] = []

    def work() -> None:
        found.extend(run(made).tobytes() for _ in range(30))

    callers = [threading.Thread(target=work) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert set(found) == {expected}


def test_the_number_of_threads_changes() -> None:
    made = plan()
    expected = run(made).tobytes()
    for count in (3, 1, 2, 4, 1):
        team.set_threads(count)
        assert team.threads == count
        assert run(made).tobytes() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_helpers_of_its_own() -> None:
    made = plan()
    team.set_threads(2)
    expected = run(made).tobytes()
    child = os.fork()
    if not child:
        team.set_threads(2)
        os._exit(0 if run(made).tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert run(made).tobytes() == expected


def test_late_helpers_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a late run the caller works alone for a while, with the same bits."""
    made = plan()
    expected = run(made).tobytes()
    team.set_threads(2)
    run(made)
    team._rest = team._rest_until = 0.0  # whatever happened on a busy machine
    monkeypatch.setattr(team, "_late_spins", -1)
    monkeypatch.setattr(team_module, "_REST_SECONDS", 60)
    monkeypatch.setattr(team_module, "_LONGEST_REST", 90)
    team._rest = team._rest_until = 0.0  # whatever other programs did before
    run(made)
    assert team._resting()
    assert run(made).tobytes() == expected
    team.set_threads(3)  # does not wake them
    assert team._resting()
    team._rest_until = 0.0
    run(made)  # late again: a longer rest
    assert team._rest == 90
    monkeypatch.setattr(team, "_late_spins", 1 << 60)
    monkeypatch.setattr(team_module, "_FORGET_AFTER", 2)
    team._rest_until = 0.0
    for _ in range(3):
        run(made)
    assert team._rest == 0


def test_sleeping_helpers_are_woken() -> None:
    import time

    made = plan()
    expected = run(made).tobytes()
    team.set_threads(2)
    for _ in range(3):
        assert run(made).tobytes() == expected
        time.sleep(0.05)  # longer than a helper's patience


def test_threads_are_those_this_process_may_use() -> None:
    assert 1 <= available_threads() <= (os.cpu_count() or 1)


def test_floats_keep_their_subnormals_outside() -> None:
    """Subnormal numbers are flushed inside a run only."""
    run(plan())
    assert np.float32(1e-40) * np.float32(0.5) != 0
