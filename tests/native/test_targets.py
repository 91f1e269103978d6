"""The kernels for processors other than this one: they compile, and call no library."""

from __future__ import annotations

import re

import pytest

from chainrule.run.native import jit
from chainrule.run.native.kernels.attention import AttentionSpec
from chainrule.run.native.kernels.columns import ArgmaxSpec, ColumnsSpec
from chainrule.run.native.kernels.gemm import GemmSpec, PackSpec, PanelsSpec
from chainrule.run.native.kernels.index import IndexSpec
from chainrule.run.native.kernels.randomness import RandomSpec
from chainrule.run.native.kernels.rows import RowsSpec
from chainrule.run.native.program import NEXT, SAME, Operand, Program, Step
from chainrule.run.native.runner import RunnerSpec
from chainrule.run.native.target import Target, target_for

SSE2 = {"sse2": True}
AVX2 = {**SSE2, "sse4.1": True, "avx": True, "avx2": True, "fma": True}
AVX512 = {**AVX2, "avx512f": True, "avx512vl": True, "avx512bw": True, "avx512dq": True}
LINUX = "x86_64-unknown-linux-gnu"
TARGETS = {
    "sse2": target_for(LINUX, "x86-64", SSE2),
    "avx2": target_for(LINUX, "haswell", AVX2),
    "avx512": target_for(LINUX, "skylake-avx512", AVX512),
    "neon": target_for("aarch64-unknown-linux-gnu", "cortex-a72", {"neon": True}),
}
F32 = "float32"
CURVES = ("exp", "log", "expm1", "log1p", "sin", "tanh", "erf", "floor", "round", "sqrt")


def specs(target: Target) -> list[jit.Spec]:
    """A kernel of every kind."""
    lanes = target.lanes
    row = (Operand(F32, NEXT), Operand(F32, NEXT), Operand(F32, SAME))
    curves = [
        Program((Step("load", (), F32, 0), Step(op, (0,), F32)), row[:2], ((1, 1),))
        for op in CURVES
    ]
    softmax = Program(
        (
            Step("load", (), F32, 0), Step("amax", (0,), F32), Step("sub", (0, 1), F32),
            Step("exp", (2,), F32), Step("sum", (3,), F32), Step("div", (3, 4), F32),
        ),
        row, ((5, 1), (4, 2)),
    )  # fmt: skip
    store = Program((Step("product", (), F32),), row[:1], ((0, 0),))
    shape = (lanes, target.panel, target.blocks, 1)
    return [
        *[("rows", RowsSpec(program, lanes, 1, False)) for program in (*curves, softmax)],
        ("columns", ColumnsSpec("sum", F32, lanes)),
        ("argmax", ArgmaxSpec(F32)),
        *[
            ("gemm", GemmSpec(a, lda, b, store, *shape))
            for a, lda, b in (
                ("rows", 784, "columns"), ("columns", 128, "rows"), ("packed", 0, "rows"),
                ("rows", 256, "packed"),
            )
        ],
        *[
            (name, AttentionSpec(0.25, causal, (96, 32), 2, *shape[:3]))
            for name, causal in (("attention", True), ("attention_gradient", False))
        ],
        ("pack_a", PackSpec("rows", target.blocks)),
        ("pack_b", PanelsSpec("columns", lanes, target.panel)),
        ("take", IndexSpec("float", "int64", lanes)),
        ("scatter", IndexSpec("float", "int32", lanes, "add")),
        ("gather", IndexSpec("float", "int64", lanes)),
        ("random", RandomSpec(F32, lanes)),
        ("runner", RunnerSpec(target.triple.startswith("aarch64"))),
    ]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def all_targets() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@pytest.mark.parametrize("name", TARGETS)
def test_kernels_compile_and_call_no_library(name: str) -> None:
    target = TARGETS[name]
    for number, spec in enumerate(specs(target)):
        text = jit.text_of(spec, f"kernel{number}", target)
        image = jit.compile_object(text, target)
        assert jit.undefined_symbols(image) == set(), spec[0]


def test_a_library_call_is_seen() -> None:
    text = (
        "declare float @llvm.sin.f32(float)\ndefine float @f(float %x) {\n"
        "%y = call float @llvm.sin.f32(float %x)\nret float %y\n}\n"
    )
    assert jit.undefined_symbols(jit.compile_object(text, TARGETS["avx2"])) == {"sinf"}


@pytest.mark.parametrize("name", ["avx2", "avx512", "neon"])
def test_sums_of_a_product_stay_in_registers(name: str) -> None:
    """The loops of the largest block touch no stack."""
    import llvmlite.binding as llvm

    target = TARGETS[name]
    spec = next(spec for spec in specs(target) if spec[0] == "gemm")
    module = llvm.parse_assembly(jit.text_of(spec, "kernel", target))
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, jit=True
    )
    assembly = machine.emit_assembly(module)
    body = assembly[assembly.index(f"\nblock{target.blocks[0]}:") :]
    body = body[: body.index(".Lfunc_end")]
    loops = [part for part in re.split(r"\n\.LBB\w+:", body) if re.search(r"vfmadd|fmla", part)]
    assert loops
    for loop in loops:
        assert not re.search(r"\(%[er]sp\)|\[sp[,\]]", loop)
