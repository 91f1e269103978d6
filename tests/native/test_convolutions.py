"""Convolution in every configuration, and pooling: native against the interpreter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from forced import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core.grad import gradients
from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops import pooling
from chainrule.core.ops.convolution import convolution
from chainrule.core.ops.functions import relu
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.shape import reshape
from chainrule.run import interpreter
from chainrule.run.native.convolutions import axes, cut, is_wide
from chainrule.run.native.kernels.shapes import ConvolutionSpec
from chainrule.run.native.kernels.windows import Axis, Slab
from chainrule.run.native.phases import dense
from chainrule.run.native.plan import Plan
from chainrule.run.native.planes import planed
from chainrule.run.native.program import NEXT, Operand, Program, Step
from chainrule.run.native.task import Part, Task

RNG = np.random.default_rng(0)


def given_by(*shapes: tuple[int, ...]) -> tuple[list[Node], list[Array]]:
    arrays = [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]
    nodes = [input(TensorType(a.shape, a.dtype), f"x{i}") for i, a in enumerate(arrays)]
    return nodes, arrays


def compare(nodes: list[Node], outputs: list[Node], arrays: list[Array], terms: int = 1) -> None:
    """Native, fused and not, against the interpreter; errors of sums of ``terms`` products."""
    graph = Graph(nodes, outputs)
    found = Plan(graph)(arrays, [])
    apart = Plan(graph, fused=False)(arrays, [])
    expected = interpreter.prepare(graph)(arrays, [])
    for a, b, c in zip(found, apart, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
        size = np.sqrt(terms) * 6e-8
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=8 * size * np.abs(c).max(initial=1))


def tried(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> None:
    """A convolution, its gradients, and what follows in the same task."""
    nodes, arrays = given_by(x, w, (w[0],))
    y = convolution(nodes[0], nodes[1], **options)
    z = relu(y + reshape(nodes[2], (1, -1, *(1,) * (y.ndim - 2))))
    seed, value = given_by(y.shape)
    outputs = [y, z, *gradients([sum(z * seed[0], tuple(range(y.ndim)))], nodes)]
    compare([*nodes, *seed], outputs, [*arrays, *value], terms=y.size // max(y.shape[1], 1) + 1)


CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 32, 32), (16, 3, 3, 3), {"padding": 1}),  # whole vectors in a row
    ((2, 3, 6, 32), (16, 3, 1, 17), {"padding": (0, 8)}),  # rows begin where lines do
    ((2, 3, 70, 64), (16, 3, 3, 17), {"padding": 0}),
    ((2, 5, 8, 8), (7, 5, 3, 3), {"padding": 1}),  # rows in a vector
    ((2, 3, 4, 4), (5, 3, 3, 3), {"padding": 1}),
    ((2, 5, 26, 26), (7, 5, 3, 3), {}),  # halves of a strip take turns
    ((2, 5, 16, 16), (7, 5, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 40, 16, 80), (30, 40, 3, 1), {"padding": (1, 40), "stride": (1, 4)}),
    ((3, 1, 28, 28), (32, 1, 3, 3), {}),  # vectors across rows
    ((2, 4, 15, 13), (6, 4, 3, 2), {"padding": (1, 0)}),
    ((2, 4, 24, 24), (6, 4, 3, 3), {"padding": 2}),  # rows share their padding
    ((2, 4, 9, 7), (6, 4, 3, 5), {"padding": (1, 3)}),
    ((2, 16, 32, 32), (32, 16, 3, 3), {"padding": 1, "stride": 2}),
    ((2, 16, 32, 32), (32, 16, 1, 1), {"stride": 2}),
    ((2, 3, 21, 22), (4, 3, 3, 3), {"stride": (3, 2), "padding": 1}),
    ((2, 64, 8, 8), (64, 64, 3, 3), {"padding": 1}),  # two chains
    ((1, 260, 6, 6), (9, 260, 2, 2), {}),  # three
    ((2, 128, 8, 8), (27, 128, 1, 1), {}),
    ((2, 6, 9, 11), (9, 2, 3, 2), {"groups": 3, "padding": (1, 2), "dilation": (2, 1)}),
    ((2, 8, 14, 14), (8, 1, 3, 3), {"groups": 8, "padding": 1}),  # depthwise
    ((2, 4, 6, 6), (8, 1, 3, 3), {"groups": 4, "padding": 1, "stride": 2}),
    ((2, 3, 40, 40), (20, 3, 7, 7), {"padding": 3, "stride": 2}),
    ((2, 3, 40, 40), (20, 3, 9, 9), {"padding": 3, "stride": 2}),  # a loop over the kernel
    ((3, 3, 5, 5), (20, 3, 5, 5), {}),  # a window as large as the image
    ((2, 3, 500), (20, 3, 5), {"padding": 2}),
    ((2, 3, 10, 5, 7), (4, 3, 3, 3, 3), {"padding": 2}),
    ((2, 3), (5, 3), {}),
    ((2, 3, 200, 200), (5, 3, 3, 3), {"padding": 1}),  # strips
    ((0, 3, 8, 8), (5, 3, 3, 3), {}),
]


@pytest.mark.parametrize(("x", "w", "options"), CASES)
def test_convolution_and_its_gradients(
    x: tuple[int, ...], w: tuple[int, ...], options: dict[str, Any]
) -> None:
    tried(x, w, **options)


def test_rows_share_their_padding() -> None:
    axis = Axis(length=24, kernel=3, stride=1, low=2, dilation=1, spread=1, positions=26)
    assert Slab(axis, axis, 26).pitch == 28
    assert Slab(axis, axis, 26, overlaps=True).pitch == 26
    uneven = axis._replace(low=1, positions=25)  # one before, two behind
    assert Slab(axis, uneven, 26, overlaps=True).pitch == 26
    apart = axis._replace(stride=2, positions=13)
    assert Slab(axis, apart, 26, overlaps=True).pitch == Slab(axis, apart, 26).pitch


@pytest.mark.parametrize(
    ("width", "strip", "pixels"),
    [(16, 8, "lines"), (8, 8, "halves"), (24, 24, "halves"), (24, 12, "halves"), (24, 4, "halves"),
     (24, 6, "runs"), (24, 20, "runs"), (8, 2, "runs"), (4, 4, "runs"), (7, 8, "flat")],
)  # fmt: skip
def test_how_pixels_make_vectors(width: int, strip: int, pixels: str) -> None:
    """Halves make whole vectors of their own, and all strips are equally high."""
    rows = Axis(length=48, kernel=1, stride=1, low=0, dilation=1, spread=1, positions=48)
    columns = rows._replace(length=width, positions=width)
    plain = Program((Step("product", (), "float32"),), (Operand("float32", NEXT),), ((0, 0),))
    spec = ConvolutionSpec(1, 1, rows, columns, strip, 1, True, plain, 16, 2, (14, 1))
    assert spec.pixels == pixels


def test_rows_begin_where_lines_do() -> None:
    """In the copy, if a vector of padding stands before them; short ones are as long as before."""
    rows = Axis(length=32, kernel=3, stride=1, low=1, dilation=1, spread=1, positions=32)
    plain = Program((Step("product", (), "float32"),), (Operand("float32", NEXT),), ((0, 0),))
    for length, pitch in ((32, 48), (64, 80), (16, 18)):
        columns = rows._replace(length=length, positions=length)
        spec = ConvolutionSpec(1, 1, rows, columns, 8, 1, True, plain, 16, 2, (14, 1))
        assert spec.slab.pitch == pitch
    assert spec._replace(columns=rows).slab.tap(1, 1) == 48 + 16


@pytest.mark.parametrize("name", TARGETS)
def test_tiles_of_one_image_have_full_blocks(name: str) -> None:
    target = TARGETS[name]
    nodes, _ = given_by((1, 64, 8, 8), (64, 64, 3, 3))
    y = convolution(*nodes, padding=1)
    strip, _ = cut(y, 64, *axes(y), target)
    assert strip <= 4  # some tiles, for many threads
    assert -(-strip * 8 // target.lanes) >= target.panel


@st.composite
def configurations(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    c, o = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    options: dict[str, Any] = {"groups": groups}
    for name, low, high in (("stride", 1, 3), ("padding", 0, 2), ("dilation", 1, 2)):
        options[name] = draw(st.tuples(st.integers(low, high), st.integers(low, high)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    image = tuple(
        draw(st.sampled_from((0, 1, 2, 5, 8, 15, 16))) + (k - 1) * d + 1
        for k, d in zip(kernel, options["dilation"], strict=True)
    )
    x = (draw(st.integers(1, 3)), groups * c, *image)
    return x, (groups * o, c, *kernel), options


@given(configurations())
@settings(max_examples=60)
def test_any_configuration(
    case: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]],
) -> None:
    x, w, options = case
    tried(x, w, **options)


def test_the_gradient_of_a_kernel_is_wide() -> None:
    nodes, _ = given_by((4, 3, 8, 8), (5, 3, 3, 3))
    y = convolution(*nodes, padding=1)
    (dw,) = gradients([sum(y, (0, 1, 2, 3))], nodes[1:])
    wide = [n for n in Graph(nodes, [dw]).nodes if n.op.name == "convolution" and is_wide(n)]
    assert len(wide) == 1


@pytest.mark.parametrize(("batch", "size", "tiles"), [(4, 8, 4), (16, 8, 8), (12, 128, 12)])
def test_large_images_have_tiles_of_their_own(batch: int, size: int, tiles: int) -> None:
    """In the gradient of a kernel, so that a tandem's slice is no more than one of them."""
    nodes, _ = given_by((batch, 3, size, size), (16, 3, 3, 3))
    y = convolution(*nodes, padding=1)
    plan = Plan(Graph(nodes, gradients([sum(y * y, (0, 1, 2, 3))], nodes[1:])))
    found = [
        part.task
        for task in plan.tasks
        if isinstance(task, Task)
        for part in (task.parts or [Part(task, 1)])
        if part.task.spec[0] == "wide_convolution"
    ]
    assert [task.tiles for task in found] == [tiles]


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_gradient_of_a_strided_convolution_multiplies_no_inserted_zeros(kernel: int) -> None:
    nodes, _ = given_by((9, 8, 16, 16), (8, 8, kernel, kernel))
    y = convolution(*nodes, stride=2, padding=kernel // 2)
    graph = dense(planed(Graph(nodes, gradients([sum(y, (0, 1, 2, 3))], nodes[:1]))))
    found = [node for node in graph.nodes if node.op.name == "convolution"]
    products = [node.size * math.prod(node.inputs[1].shape[1:]) for node in found]
    assert np.sum(products) == y.size * 8 * kernel**2


def test_sums_that_nothing_follows_go_from_registers_to_their_place() -> None:
    """Of one chain; the sums of several wait for each other."""
    nodes, arrays = given_by((2, 16, 16, 16), (16, 16, 3, 3), (2, 64, 16, 16), (16, 64, 3, 3))
    y, long = convolution(*nodes[:2], padding=1), convolution(*nodes[2:], padding=1)
    for result, is_plain in ((y, True), (relu(y), False), (long, False)):
        plan = Plan(Graph(nodes, [result]))
        (spec,) = (
            key
            for each in plan.tasks
            if isinstance(each, Task)
            for kind, key in each.kernels()
            if kind == "convolution"
        )
        assert spec.is_plain == is_plain
        compare(nodes, [result], arrays, terms=64 * 9)


def test_gradients_of_convolutions_of_the_same_stride_are_added_phase_by_phase() -> None:
    nodes, arrays = given_by((2, 8, 32, 32), (8, 8, 3, 3), (8, 8, 1, 1))
    y = convolution(nodes[0], nodes[1], stride=2, padding=1)
    short = convolution(nodes[0], nodes[2], stride=2)
    outputs = gradients([sum(y * y + short * short, (0, 1, 2, 3))], nodes[:1])
    tasks = [each for each in Plan(Graph(nodes, outputs)).tasks if isinstance(each, Task)]
    kinds = [kind for each in tasks for kind, _ in each.kernels()]
    assert kinds.count("interleave") == 1
    compare(nodes, outputs, arrays, terms=8 * 10)


@pytest.mark.parametrize(
    ("shape", "sizes", "options"),
    [
        ((2, 3, 32, 32), (2,), {}),
        ((2, 3, 24, 24), (2,), {}),
        ((2, 3, 17, 19), (3, 2), {"padding": 1}),
        ((2, 3, 9, 9), (3, 1), {"padding": 1}),
        ((1, 2, 20, 21), (2, 3), {"dilation": 2, "padding": 1}),
        ((1, 1, 300, 301), (3, 3), {}),
        ((2, 3, 40), (4, 2), {}),
    ],
)
def test_max_pool_and_its_gradient(
    shape: tuple[int, ...], sizes: tuple[int, ...], options: dict[str, Any]
) -> None:
    nodes, arrays = given_by(shape)
    arrays[0] = np.round(arrays[0] * 2) / 2  # many ties
    y, place = pooling.max_pool(nodes[0], *sizes, rank=len(shape) - 2, **options)
    seed, value = given_by(y.shape)
    dx = gradients([sum(y * seed[0], tuple(range(y.ndim)))], nodes)
    graph = Graph([*nodes, *seed], [y, place, *dx])
    found = Plan(graph)([*arrays, *value], [])
    expected = interpreter.prepare(graph)([*arrays, *value], [])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-6, atol=1e-6)


def test_what_is_not_a_number_wins() -> None:
    nodes, arrays = given_by((1, 1, 6, 34))
    arrays[0][0, 0, 2, 3] = np.nan
    arrays[0][0, 0, 0, 10:14] = arrays[0][0, 0, 1, 10:14] = -np.inf
    y, place = pooling.max_pool(nodes[0], 2, rank=2)
    graph = Graph(nodes, [y, place])
    for a, b in zip(Plan(graph)(arrays, []), interpreter.prepare(graph)(arrays, []), strict=True):
        np.testing.assert_array_equal(a, b)
