"""What passes touch next is asked for while a convolution multiplies, all of it, and in time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from test_random_graphs import in_small_tandems

from chainrule.core.graph import Graph, TensorType
from chainrule.core.op import input, pick
from chainrule.core.ops.arithmetic import maximum
from chainrule.core.ops.convolution import convolution
from chainrule.core.ops.normalization import BATCH_NORM
from chainrule.run.native.kernels.calling import LINE
from chainrule.run.native.kernels.shapes import ConvolutionSpec
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Part, Task
from chainrule.run.native.views import Buffer


def two_layers(batch: int, size: int, channels: int = 8) -> Graph:
    """Convolutions, the second of which begins with a pass over what the first has made."""
    shapes = (batch, 3, size, size), (channels, 3, 3, 3), (channels, channels, 3, 3)
    nodes = [
        input(TensorType(shape, np.dtype(np.float32)), f"x{i}") for i, shape in enumerate(shapes)
    ]
    gamma = input(TensorType((1, channels, 1, 1), np.dtype(np.float32)), "gamma")
    y = convolution(nodes[0], nodes[1], padding=1)
    z = maximum(pick(BATCH_NORM(y, gamma, gamma, dims=(0, 2, 3), eps=1e-5), 0), 0.0)
    made = BATCH_NORM(convolution(z, nodes[2], padding=1), gamma, gamma, dims=(0, 2, 3), eps=1e-5)
    return Graph([*nodes, gamma], [pick(made, 0)])


def tandems(plan: Plan) -> Iterator[Task]:
    return (task for task in plan.tasks if isinstance(task, Task) and task.parts)


def asked(part: Part) -> dict[Buffer, list[tuple[int, int]]]:
    """For each tensor where the pieces begin that slice 0 asks for, and their length."""
    spec: ConvolutionSpec = part.task.spec[1]
    if not spec.ahead.lines:
        return {}
    calls = spec.calls * spec.ahead.tiles
    found: dict[Buffer, list[tuple[int, int]]] = {}
    for buffer, place in part.task.tensors[-calls:]:
        found.setdefault(buffer, []).append((place, spec.ahead.lines * LINE * spec.depth))
    return found


def test_all_that_a_pass_reads_in_the_next_slice_is_asked_for() -> None:
    (tandem,) = (
        task for task in tandems(Plan(two_layers(8, 32)))
        if [part.task.spec[0] for part in task.parts] == ["rows", "convolution", "rows"]
    )  # fmt: skip
    before, convolution, _ = tandem.parts
    found = asked(convolution)
    read = [buffer for buffer in before.task.reads if buffer.nbytes > 1 << 16]
    assert len(read) == 1
    assert set(found) == set(read)
    nbytes = read[0].nbytes // tandem.tiles
    covered = np.zeros(read[0].nbytes, bool)
    for place, length in found[read[0]]:
        covered[place : place + length] = True
    assert covered[nbytes : 2 * nbytes].all()
    assert not covered[:nbytes].any()
    assert set(convolution.task.numbers[-convolution.task.spec[1].calls :]) == {nbytes}


def test_what_a_thread_has_of_its_own_is_not_asked_for() -> None:
    own, found = set(), set()
    for tandem in tandems(Plan(two_layers(8, 32))):
        own |= {each.buffer for each in tandem.own}
        for part in tandem.parts:
            if part.task.spec[0] == "convolution":
                found |= {*asked(part)}
    assert own
    assert found
    assert own.isdisjoint(found)


@pytest.mark.parametrize(("batch", "size"), [(2, 7), (3, 19), (4, 33)])
def test_odd_sizes_ask_without_a_difference(batch: int, size: int) -> None:
    """Strips of different heights, vectors over the ends of rows."""
    graph = two_layers(batch, size, 17)
    plan = in_small_tandems(graph)
    assert any(asked(p) for t in tandems(plan) for p in t.parts if p.task.spec[0] == "convolution")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(node.shape).astype(np.float32) for node in graph.inputs]
    for a, b in zip(plan(arrays, []), Plan(graph, fused=False)(arrays, []), strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
