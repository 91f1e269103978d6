"""The kernels for processors other than this one: they compile, call no library, and are right.

Those of older x86 processors run here; those of ARM run under an emulator, where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounds import bounded
from cases import CASES
from forced import TARGETS, forced, runs_here
from foreign import Foreign, emulated, initialize, run
from networks import Sample, cases, networks

from chainrule.core.dtype import is_float
from chainrule.core.grad import gradients
from chainrule.core.graph import Array, Graph, TensorType
from chainrule.core.op import input
from chainrule.core.ops.arithmetic import erf, exp, tanh
from chainrule.core.ops.convolution import convolution
from chainrule.core.ops.linear import matmul
from chainrule.core.ops.reduction import sum
from chainrule.run.native import jit
from chainrule.run.native.plan import Plan
from chainrule.run.native.program import NEXT, Operand, Program, Step
from chainrule.run.native.runner import RunnerSpec
from chainrule.run.native.target import Target

# The error of a network's result, relative to its norm: bounds that assume the worst of each of its
# many roundings say little. Adam divides gradients by their size, and so their errors.
NETWORK = 1e-5


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [*cases(), *networks()]


@pytest.fixture(scope="module")
def foreign(samples: list[Sample]) -> Callable[[str], Foreign]:
    """For a target by name, plans of all samples."""

    @lru_cache
    def made(name: str) -> Foreign:
        found = Foreign(TARGETS[name])
        found.plans = [found.plan(sample.graph) for sample in samples]
        return found

    return made


def assert_right(sample: Sample, found: list[Array]) -> None:
    """Cases within the bounds of their roundings, networks near float64."""
    is_network = sample.name.split("-")[0] not in CASES
    with np.errstate(all="ignore"):
        expected = bounded(sample.graph.inputs, sample.results, sample.arrays)
    for y, (value, error) in zip(found, expected, strict=True):
        assert y.shape == value.shape
        if not is_float(y.dtype):
            np.testing.assert_array_equal(y, value)
        elif is_network:
            off = np.linalg.norm(y - value) / max(float(np.linalg.norm(value)), 1e-30)
            assert off < NETWORK, (sample.name, off)
        else:
            near = np.abs(y.astype(np.float64) - value) <= error
            assert (near | (y == value) | (np.isnan(y) & np.isnan(value))).all(), sample.name


# ------------------------------------------------------------------------------ compiling


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_kernels_compile_and_call_no_library(name: str, foreign: Callable[[str], Foreign]) -> None:
    """Kernels of every kind."""
    target, made = TARGETS[name], foreign(name)
    # LLVM reads the clock of ARM, an instruction in words, on ARM alone.
    timed = ("timed_runner", "timed_tandem")
    kinds = ("runner",) if name == "neon" else ("runner", *timed)
    runners = [(kind, RunnerSpec(name == "neon")) for kind in kinds]
    assert {*(kind for kind, _ in made.specs), "runner", *timed} == jit.emitters().keys()
    images = dict(zip(made.specs, made.objects(), strict=True))
    for spec in runners:
        images[spec] = jit.compile_object(jit.text_of(spec, "runner", target), target)
    for spec, image in images.items():
        assert jit.undefined_symbols(image) == set(), spec[0]


def test_a_library_call_is_seen() -> None:
    initialize()
    text = (
        "declare float @llvm.sin.f32(float)\ndefine float @f(float %x) {\n"
        "%y = call float @llvm.sin.f32(float %x)\nret float %y\n}\n"
    )
    assert jit.undefined_symbols(jit.compile_object(text, TARGETS["avx2"])) == {"sinf"}


# ------------------------------------------------------------------------------ registers

_STORE = Program((Step("product", (), "float32"),), (Operand("float32", NEXT),), ((0, 0),))
_PRODUCTS = ("gemm", "matvec", "convolution", "wide_convolution")
_OTHERS = ("attention", "attention_gradient", "max_pool", "columns", "sort", "cumsum", "max_bins")
_STACK = r"\(%[er][sb]p\)|\[sp[,\]]"
_ADDS = r"vfmadd|fmla|mulps|fmul\s+v"


def usual(spec: jit.Spec) -> jit.Spec | None:
    """The kernel as it is for tensors of usual size, with nothing after the product.

    Where rows of A are shorter than a block is high, the code generator takes them for one run of
    numbers, and keeps too many of them; but then there are next to none.
    """
    kind, key = spec
    if kind in ("gemm", "matvec", "convolution"):
        key = key._replace(program=_STORE)
    if kind == "gemm" and key.lda:
        key = key._replace(lda=max(key.lda, 64))
    if kind.startswith("attention"):
        key = key._replace(lda=(96, 32))
    if kind == "wide_convolution" and key.rows.positions * key.columns.positions < 9:
        return None
    return kind, key


def inner_loops(assembly: str) -> Iterator[str]:
    """Blocks that jump to themselves, and call no other function."""
    parts = re.split(r"\n(\.LBB\w+):", assembly)
    for label, body in zip(parts[1::2], parts[2::2], strict=True):
        again = re.search(rf"\n\t(?:j|b|cb|tb)\S*\s[^\n]*{re.escape(label)}\b", body)
        if again and not re.search(r"\n\t(?:call|bl)\S*\s", body[: again.end()]):
            yield body[: again.end()]


def assembly_of(spec: jit.Spec, target: Target) -> str:
    """A kernel in the words of the processor."""
    import llvmlite.binding as llvm

    initialize()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, jit=True
    )
    assembly: str = machine.emit_assembly(llvm.parse_assembly(jit.text_of(spec, "kernel", target)))
    return assembly


def loops_seen(specs: Iterable[jit.Spec], target: Target) -> dict[str, int]:
    """How many inner loops the kernels of each kind have.

    Products touch no stack; other loops store nothing there, constants may be read from it.
    """
    chosen = {usual(spec) for spec in specs if spec[0] in (*_PRODUCTS, *_OTHERS)}
    seen: dict[str, int] = {}
    for spec in chosen - {None}:
        assert spec is not None
        assembly = assembly_of(spec, target)
        for function in re.split(r"\n\.Lfunc_end", assembly):
            # Where it does not hold the stack's frame, rbp is a register like any other.
            has_frame = re.search(r"sp, %[er]bp", function)
            stack = _STACK if has_frame else _STACK.replace("[sb]p", "sp")
            for loop in inner_loops(function):
                seen[spec[0]] = seen.get(spec[0], 0) + 1
                lines = [line for line in loop.splitlines() if re.search(stack, line)]
                if not (spec[0] in _PRODUCTS and re.search(_ADDS, loop)):
                    lines = [line for line in lines if _stores(line)]
                assert not lines, (spec, loop)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_inner_loops_stay_in_registers(name: str, foreign: Callable[[str], Foreign]) -> None:
    seen = loops_seen(foreign(name).specs, TARGETS[name])
    assert seen.keys() >= {*_PRODUCTS, "attention", "attention_gradient", "max_pool", "sort"}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    ("x", "outputs", "stride"),
    [((2, 64, 8, 8), 64, 1), ((2, 32, 16, 16), 64, 2), ((2, 64, 4, 4), 64, 1),
     ((2, 64, 12, 12), 64, 1), ((2, 32, 26, 26), 64, 1), ((2, 16, 32, 32), 16, 1)],
)  # fmt: skip
def test_blocks_of_convolutions_stay_in_registers(
    name: str, x: tuple[int, ...], outputs: int, stride: int
) -> None:
    """Full blocks, whose sums need nearly all of them: one sum on the stack, and a thread whose
    stack lies badly takes twice the time.
    """
    nodes = [input(TensorType(shape, np.dtype(np.float32))) for shape in (x, (outputs, x[1], 3, 3))]
    y = convolution(*nodes, padding=1, stride=stride)
    loss = sum(y * y, tuple(range(4)))
    made = Foreign(TARGETS[name])
    made.plan(Graph(nodes, [y, *gradients([loss], nodes)]))
    assert loops_seen(made.specs, TARGETS[name]).keys() >= {"convolution", "wide_convolution"}


@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_vectors_on_the_stack_cross_no_lines(name: str) -> None:
    """A chain with more constants than there are registers: each is read in one piece."""
    x, w = (input(TensorType((40, 40), np.dtype(np.float32)), name) for name in "xw")
    z = matmul(x, w)
    made = Foreign(TARGETS[name])
    made.plan(Graph([x, w], [erf(z) * exp(z) * tanh(z)]))
    (spec,) = (spec for spec in made.specs if spec[0] == "gemm")
    assembly = assembly_of(spec, TARGETS[name])
    vectors = [line for line in assembly.splitlines() if re.search(r"[yz]mm.*[sb]p\)", line)]
    assert vectors
    assert not [line for line in vectors if "movup" in line]


def _stores(line: str) -> bool:
    """Whether the instruction writes the memory it names."""
    words = line.split()
    return words[0].startswith("st") or (words[0][0] != "c" and words[-1].endswith("p)"))


def test_stack_traffic_is_seen() -> None:
    loop = "f:\n\tmov x\n.LBB0_1:\n\tvmovups\t%ymm1, 32(%rsp)\n\tjl\t.LBB0_1\n\tret\n"
    (body,) = inner_loops(loop)
    assert re.search(_STACK, body)
    assert _stores(body.splitlines()[1])
    assert not _stores("\tvaddps\t32(%rsp), %ymm1, %ymm2")
    assert _stores("\tstr\tq1, [sp, #16]")


# ------------------------------------------------------------------------------ running


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sse2", "avx2"])
def test_lesser_processors(name: str, samples: list[Sample]) -> None:
    """All cases and networks, with the kernels of older x86 processors."""
    if not runs_here(TARGETS[name]):
        pytest.skip("another family of processors")
    with forced(TARGETS[name]):
        for sample in samples:
            found = Plan(sample.graph)(sample.arrays, sample.variables)
            assert_right(sample, found)


@pytest.mark.slow
def test_arm(samples: list[Sample], foreign: Callable[[str], Foreign], tmp_path: Path) -> None:
    """All cases and networks with NEON's kernels and runner, under an emulator."""
    emulated()
    made = foreign("neon")
    program = made.executable(tmp_path)
    runs: list[Any] = [
        (plan, sample.arrays, sample.variables)
        for plan, sample in zip(made.plans, samples, strict=True)
    ]
    for sample, found in zip(samples, run(program, tmp_path, runs), strict=True):
        assert_right(sample, found)
