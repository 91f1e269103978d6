"""The threads: plans come and go, callers meet, processes fork, helpers lose their core."""

from __future__ import annotations

import gc
import os
import sys
import threading

import numpy as np
import pytest

from chainrule.core.graph import Array, Graph, TensorType
from chainrule.core.op import input
from chainrule.core.ops import linear
from chainrule.core.ops.arithmetic import tanh
from chainrule.run.native import team as team_module
from chainrule.run.native.cores import keep_away, usable_cores
from chainrule.run.native.plan import Plan
from chainrule.run.native.team import team

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


def test_helpers_that_do_not_help_rest() -> None:
    pace = team_module.Pace()
    now = 100.0

    def together(seconds: float) -> None:
        nonlocal now
        assert pace.wants_helpers(now)
        now += seconds
        pace.took_together(seconds, now)

    for _ in range(6):
        together(1.0)  # nothing is known yet
    for _ in range(2):
        assert not pace.wants_helpers(now)
        pace.took_alone(0.5)
    for _ in range(3):
        together(0.4)
    together(0.7)  # a slow run is nothing: the others saved more
    for _ in range(2):
        together(0.6)
    assert pace.until == 0
    together(0.6)
    assert pace.until == now + 0.1
    assert not pace.wants_helpers(now + 0.05)
    pace.took_alone(0.7)  # others were shorter
    for rest in (0.2, 0.4, 0.8, 1.6, 3.2, 3.2):
        now = pace.until
        together(0.6)  # they wake up
        together(0.6)
        together(0.6)
        assert pace.until == now + rest
    now = pace.until
    for _ in range(50):
        together(0.4)
    together(2.0)
    assert pace.until == now + 0.01  # they were good for long: not for long


def test_resting_helpers_change_no_bit() -> None:
    made = plan()
    expected = run(made).tobytes()
    team.set_threads(2)
    found = [run(made).tobytes()]
    pace = team._paces[made.head]
    pace.until = float("inf")
    found += [run(made).tobytes() for _ in range(3)]
    team.set_threads(3)  # does not wake them
    assert team._paces[made.head] is pace
    pace.until = 0.0
    found += [run(made).tobytes() for _ in range(10)]
    assert set(found) == {expected}
    del made
    gc.collect()
    assert pace not in team._paces.values()


def test_sleeping_helpers_are_woken() -> None:
    import time

    made = plan()
    expected = run(made).tobytes()
    team.set_threads(2)
    for _ in range(3):
        assert run(made).tobytes() == expected
        time.sleep(0.05)  # longer than a helper's patience


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are placed on Linux only")
def test_a_helper_is_kept_off_the_callers_core() -> None:
    mine = os.sched_getaffinity(0)
    done = threading.Event()
    helper = threading.Thread(target=done.wait)
    keep_away([helper])  # not yet started: nothing is moved, the caller least of all
    assert os.sched_getaffinity(0) == mine
    helper.start()
    try:
        keep_away([helper])
        assert helper.native_id is not None
        others = os.sched_getaffinity(helper.native_id)
        assert others <= mine
        assert len(others) == max(1, len(mine) - 1)
        assert os.sched_getaffinity(0) == mine
        os.sched_setaffinity(0, {min(mine)})  # no other core is left: it stays where it is
        keep_away([helper])
        assert os.sched_getaffinity(helper.native_id) == others
    finally:
        os.sched_setaffinity(0, mine)
        done.set()
        helper.join()
    keep_away([helper])  # it has ended
    assert os.sched_getaffinity(0) == mine


def test_threads_are_those_this_process_may_use() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_floats_keep_their_subnormals_outside() -> None:
    """Subnormal numbers are flushed inside a run only."""
    run(plan())
    assert np.float32(1e-40) * np.float32(0.5) != 0
