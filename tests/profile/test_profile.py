"""Where the time of a step goes: rows that add up, belong somewhere, and cost the step nothing."""

from __future__ import annotations

import json
import re
import timeit
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import TensorType
from chainrule.core.op import OPS, input
from chainrule.core.ops.convolution import convolution
from chainrule.errors import OptionError, Source
from chainrule.profile import Profile, Row, roofline
from chainrule.profile.programs import step_of_file
from chainrule.profile.work import flops

FLOAT = np.dtype(np.float32)


@pytest.fixture
def native() -> Iterator[None]:
    cr.set_executor("native")
    yield
    cr.set_executor("interpreter")


class Training:
    """A step with dropout, an optimizer with moments, and two layers."""

    def __init__(self) -> None:
        cr.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.3), nn.Linear(30, 5))
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-2)
        rng = np.random.default_rng(0)
        self.data = rng.standard_normal((8, 20), np.float32), rng.integers(0, 5, 8)
        self.step = cr.compile(self._step)

    def _step(self, x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def run(self) -> float:
        return self.step(*self.data).item()

    def state(self) -> list[bytes]:
        cells = [*self.model.parameters(), *self.optimizer.variables().values()]
        return [cell.numpy().tobytes() for cell in cells]


EXECUTORS = ("native", "interpreter")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_profile_changes_nothing(executor: str) -> None:
    cr.set_executor(executor)
    one = Training()
    losses = [one.run() for _ in range(4)]
    after = one.state()
    other = Training()
    assert other.run() == losses[0]
    before = other.state()
    cr.profile(other.step, *other.data, rounds=3)
    assert other.state() == before
    cr.profile(other.step, *other.data, rounds=1)
    assert [other.run() for _ in range(3)] == losses[1:]  # dropout draws the same too
    assert other.state() == after


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_that_never_ran_is_not_run(executor: str) -> None:
    cr.set_executor(executor)
    loss = Training().run()
    training = Training()
    cr.profile(training.step, *training.data, rounds=1)
    assert training.run() == loss


@pytest.mark.parametrize("executor", EXECUTORS)
def test_rows_belong_to_layers_phases_and_lines(executor: str) -> None:
    cr.set_executor(executor)
    training = Training()
    found = cr.profile(training.step, *training.data, rounds=3)
    assert found.executor == executor
    layers = {total.name for total in found.by("layer")}
    assert {("forward", "0"), ("forward", "3"), ("backward", "0"), ("update", "")} <= layers
    assert [total.name for total in found.by("phase")] == [("forward",), ("backward",), ("update",)]
    lines = {row.source.file for row in found.rows if row.source and row.flops}
    assert lines == {__file__}
    text = Path(__file__).read_text("utf-8").splitlines()
    (update,) = (total for total in found.by("phase") if total.name == ("update",))
    assert update.source is not None
    assert "self.optimizer.step()" in text[update.source.line - 1]
    assert all(row.seconds >= 0 and row.nbytes >= 0 for row in found.rows)
    assert found.total.seconds > 0


@pytest.mark.parametrize("executor", EXECUTORS)
def test_operations_are_those_of_the_formulas(executor: str) -> None:
    """Of a step of two layers: two products each, and dX of the second; the rest is small."""
    cr.set_executor(executor)
    training = Training()
    found = cr.profile(training.step, *training.data, rounds=1)
    products = 2 * 8 * (20 * 30 + 30 * 5)
    expected = 3 * products - 2 * 8 * 20 * 30
    heavy = sum(
        row.flops for row in found.rows if {"matmul", "linear"} & {*row.ops} and row.flops > 1000
    )
    assert expected <= heavy <= expected + 15 * (20 * 30 + 30 * 5) + 20 * 8 * 30


@pytest.mark.usefixtures("native")
def test_a_loop_counts_its_laps() -> None:
    def run(x: cr.Tensor, w: cr.Tensor) -> cr.Tensor:
        def body(carry: cr.Tensor, x_t: cr.Tensor) -> tuple[cr.Tensor, cr.Tensor]:
            carry = cr.tanh(carry @ w + x_t)
            return carry, carry

        return cr.scan(body, cr.zeros(4, 16), x)[1]

    found = cr.profile(run, cr.ones(7, 4, 16), cr.ones(16, 16), rounds=2)
    (product,) = (row for row in found.rows if row.kernel == "gemm")
    assert product.calls == 7
    assert 7 * 2 * 4 * 16 * 16 <= product.flops <= 7 * (2 * 4 * 16 * 16 + 3 * 4 * 16)


@pytest.mark.usefixtures("native")
def test_tasks_in_tandem_have_rows_of_their_own() -> None:
    """A task of the plan works slice by slice; each of its parts has a clock, and no bit moves."""
    cr.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
    )
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x: cr.Tensor) -> cr.Tensor:
        loss = model(x).mean()
        loss.backward()
        optimizer.step()
        return loss

    compiled = cr.compile(step)
    x = np.random.default_rng(0).standard_normal((32, 3, 24, 24), np.float32)
    entry, _ = compiled.prepared((x,), {})
    kernels = [task.spec[0] for task in entry.plan.tasks]
    assert "tandem" in kernels
    found = cr.profile(compiled, x, rounds=2)
    assert "tandem" not in [row.kernel for row in found.rows]
    product = 2 * 32 * 24 * 24 * 9 * 16 * 16
    forward = {total.name[1]: total for total in found.by("layer") if total.name[0] == "forward"}
    assert product <= forward["2"].flops <= 1.1 * product
    assert 3 / 16 * product <= forward["0"].flops <= 1.2 * 3 / 16 * product
    assert all(row.seconds > 0 for row in found.rows if row.kernel.endswith("convolution"))
    assert [task.spec[0] for task in entry.plan.tasks] == kernels
    state = [p.numpy().tobytes() for p in model.parameters()]
    losses = [compiled(x).item() for _ in range(2)]
    cr.profile(compiled, x, rounds=1)
    for p, array in zip(model.parameters(), state, strict=True):
        p.copy_(np.frombuffer(array, np.float32).reshape(p.shape))
    assert [compiled(x).item() for _ in range(2)] == losses


@pytest.mark.usefixtures("native")
def test_native_knows_the_peak_and_stays_below_it() -> None:
    model = nn.Linear(256, 256)
    found = cr.profile(model, cr.ones(64, 256), rounds=20)
    (row,) = (row for row in found.rows if row.kernel == "gemm")
    share = found.share_of_peak(row)
    assert share is not None
    assert 0 < share < 1.2
    assert found.seconds >= found.total.seconds * 0.5  # the clock beside the call agrees
    assert row.nbytes >= 4 * (64 * 256 * 2 + 256 * 256)


@pytest.mark.usefixtures("native")
def test_what_is_profiled() -> None:
    x = cr.ones(3, 4)
    plain = cr.profile(lambda x: cr.exp(x).sum(), x, rounds=1)
    assert plain.rows
    assert cr.profile(nn.Linear(4, 2), x, rounds=1).name == "Linear"
    assert cr.profile(cr.compile(nn.Linear(4, 2)), x, rounds=1).rows
    cr.set_executor("torch")
    with pytest.raises(OptionError, match="'native' or 'interpreter', but got 'torch'"):
        cr.profile(nn.Linear(4, 2), x)


def test_a_gradient_that_waits_is_not_used_up() -> None:
    model = nn.Linear(4, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model(cr.ones(3, 4)).sum().backward()
    before = model.weight.grad.tolist()
    cr.profile(cr.compile(lambda: optimizer.step()), rounds=1)
    assert model.weight.grad.tolist() == before


# ------------------------------------------------------------------------------ operations


def leaf(*shape: int) -> object:
    return input(TensorType(shape, FLOAT), "x")


def test_operations_of_ops() -> None:
    assert flops(OPS["matmul"](leaf(2, 3, 4), leaf(2, 4, 5))) == 2 * 2 * 3 * 4 * 5
    assert flops(OPS["exp"](leaf(3, 4))) == 12
    assert flops(OPS["reshape"](leaf(3, 4), shape=(12,))) == 0
    assert flops(OPS["sum"](leaf(3, 4), dims=(0,), keepdim=False)) == 12
    y = convolution(leaf(2, 6, 9, 9), leaf(8, 3, 3, 3), stride=2, groups=2)
    assert y.shape == (2, 8, 4, 4)
    assert flops(y) == 2 * (2 * 8 * 4 * 4) * (3 * 3 * 3)
    linear = flops(OPS["linear"](leaf(3, 4), leaf(5, 4), leaf(5)))
    assert linear == 2 * 3 * 4 * 5 + 3 * 5


def test_the_gradient_of_a_strided_convolution_is_not_charged_for_zeros() -> None:
    from chainrule.core.grad import gradients

    x, w = leaf(2, 4, 8, 8), leaf(6, 4, 2, 2)
    y = convolution(x, w, stride=2)
    found = gradients([y], [x, w])
    from chainrule.core.graph import walk

    inside = [node for node in walk(found) if node.op.name == "convolution" and node is not y]
    assert {flops(node) for node in inside} == {flops(y)}


# ------------------------------------------------------------------------------ renderings

LINE = Source("run.py", 7, "step")


def made(*rows: Row, peak: float = 100e9, seconds: float = 4e-3) -> Profile:
    return Profile("step", "native", "a processor", 9, seconds, peak, peak / 20, rows)


def example() -> Profile:
    return made(
        Row("forward", ("body", "fc1"), "gemm", ("matmul", "add"), LINE, 1, 1e-3, 50e6, 2e6),
        Row("backward", ("body", "fc1"), "gemm", ("matmul",), LINE, 4, 2e-3, 100e6, 4e6),
        Row("update", (), "rows", tuple("abcdefgh"), None, 1, 1e-3, 0.0, 1e6),
    )


def test_text() -> None:
    assert (
        example().text(["layer", "phase"], width=110)
        == """\
step: 4.00 ms per call (median of 9), native executor, 1 thread, a processor
one core: FMA peak 100 GFLOP/s, memory 5 GB/s beyond its own caches, measured
outside of kernels (Python, memory of results): 0.00 ms

phase     layer       ms    time  MFLOP  of peak   MB  of roof  line
forward   body.fc1  1.00   25.0%   50.0      50%  2.0      50%  run.py:7
backward  body.fc1  2.00   50.0%  100.0      50%  4.0      50%  run.py:7
update    -         1.00   25.0%    0.0       0%  1.0      20%
total               4.00  100.0%  150.0      38%  7.0      43%

phase       ms    time  MFLOP  of peak   MB  of roof  line
forward   1.00   25.0%   50.0      50%  2.0      50%  run.py:7
backward  2.00   50.0%  100.0      50%  4.0      50%  run.py:7
update    1.00   25.0%    0.0       0%  1.0      20%
total     4.00  100.0%  150.0      38%  7.0      43%

The longest:
kernel   phase     layer       ms   time  MFLOP  of peak   MB  of roof  line      what it computes
gemm x4  backward  body.fc1  2.00  50.0%  100.0      50%  4.0      50%  run.py:7  matmul
gemm     forward   body.fc1  1.00  25.0%   50.0      50%  2.0      50%  run.py:7  matmul add
rows     update    -         1.00  25.0%    0.0       0%  1.0      20%  -         a b c d e f +2"""
    )


def test_short_steps_and_unknown_peaks_have_other_units() -> None:
    text = str(
        made(Row("forward", (), "add", ("add",), LINE, 1, 2e-6, 4e3, 0), peak=0, seconds=3e-6)
    )
    assert "3.00 us per call" in text
    assert re.search(r"phase +layer +us +time +MFLOP +GFLOP/s +MB", text)
    assert re.search(r"forward +- +2.00 +100.0% +0.0 +2.0 +0.0", text)


def test_the_roof_is_of_arithmetic_or_of_memory() -> None:
    """At 100 GFLOP/s and 5 GB/s; a kernel whose data was in the caches is at its roof."""
    arithmetic = Row("forward", (), "gemm", ("matmul",), LINE, 1, 2e-3, 100e6, 1e6)
    memory = Row("forward", (), "rows", ("add",), LINE, 1, 4e-3, 1e6, 10e6)
    cached = Row("forward", (), "rows", ("add",), LINE, 1, 1e-3, 1e6, 10e6)
    nothing = Row("forward", (), "rows", ("copy",), LINE, 1, 0.0, 0.0, 0.0)
    found = made(arithmetic, memory, cached, nothing)
    shares = [found.share_of_roof(row) for row in found.rows]
    assert shares == pytest.approx([0.5, 0.5, 1.0, 0.0])
    assert found.share_of_roof(found.total) == pytest.approx((1 + 2 + 1) / 7)
    unknown = made(arithmetic, peak=0)
    assert unknown.share_of_roof(arithmetic) is None
    assert roofline.render(unknown) == ""


def test_the_roofline_shows_every_kernel_that_computes() -> None:
    text = roofline.render(example())
    picture = ElementTree.fromstring(text)
    discs = picture.findall("circle")
    assert len(discs) == 2  # the update has no operations
    titles = ["".join(disc.itertext()) for disc in discs]
    assert titles[0].startswith("backward body.fc1: gemm (matmul)\n2.000 ms, 50.0 GFLOP/s, 50% of")
    assert float(discs[0].get("r", 0)) == pytest.approx(2**0.5 * float(discs[1].get("r", 0)), 0.01)
    (roof,) = picture.findall("polyline")
    left, corner, right = (tuple(map(float, p.split(","))) for p in roof.get("points", "").split())
    assert left[1] > corner[1] == right[1]  # up along memory's pace, then level at the peak
    assert all(float(disc.get("cy", 0)) > corner[1] for disc in discs)


@pytest.mark.usefixtures("native")
def test_a_core_has_limits() -> None:
    """Twice in a process, since a library's name can't come again; copying counts both ways."""
    from chainrule.run.native.limits import memory_rate

    rates = memory_rate(3), memory_rate(3)
    array = np.zeros(1 << 23, np.float32)
    seconds = min(timeit.repeat(array.copy, number=1, repeat=3))
    assert all(0.2 * array.nbytes / seconds < rate < 1e12 for rate in rates)


def test_little_layers_share_a_line() -> None:
    rows = [
        Row("forward", (f"layer{n}",), "gemm", ("matmul",), LINE, 1, 1.0 if n < 3 else 1e-3, 0, 0)
        for n in range(20)
    ]
    text = made(*rows).text().partition("The longest")[0]
    assert "(17 more)" in text
    assert text.count("layer") == 4  # three, and the head


def test_json() -> None:
    found = json.loads(example().json())
    assert found["seconds"] == 4e-3
    assert found["rows"][0] == {
        "phase": "forward", "layer": "body.fc1", "kernel": "gemm", "ops": ["matmul", "add"],
        "source": {"file": "run.py", "line": 7}, "calls": 1, "seconds": 1e-3, "flops": 50e6,
        "nbytes": 2e6,
    }  # fmt: skip
    assert found["rows"][2]["source"] is None


def test_the_page_stands_alone(tmp_path: Path) -> None:
    row = Row("forward", ("</script><b>",), "gemm", ("<i>",), LINE, 1, 1e-3, 1e6, 1e6)
    path = made(row).html(tmp_path / "profile.html")
    page = path.read_text("utf-8")
    assert "http" not in page
    assert page.count("<circle") == 1
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<b>" not in page.replace("\\u003c", "").split("<script>")[0]
    (bars,) = re.findall(r"top_bar = (\{.*\}), colors", page)
    top = json.loads(bars)
    assert [top["name"], top["below"][0]["name"]] == ["step", "forward"]
    assert top["below"][0]["below"][0]["below"][0]["kernel"]


def test_sums_have_names() -> None:
    assert [total.name for total in example().by("kernel")] == [("gemm",), ("rows",)]
    assert [total.name for total in example().by("line")] == [("run.py:7",), ("",)]
    with pytest.raises(OptionError, match="did you mean 'layer'"):
        example().by("layers")


# ------------------------------------------------------------------------------ programs

PROGRAM = """
import sys
import chainrule as cr
step = cr.compile(lambda x: cr.exp(x))
for count in range(int(sys.argv[1])):
    try:
        step(cr.ones(2, 3))
    except Exception:
        pass
    print("call", count)
"""


def test_a_program_is_run_until_its_third_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, "utf-8")
    step, args, kwargs = step_of_file(path, ["100"])
    assert capsys.readouterr().out.split("\n")[:-1] == ["call 0", "call 1"]
    assert cr.profile(step, *args, **kwargs, rounds=1).rows[-1].ops == ("exp",)
    assert step_of_file(path, ["1"])[1][0].shape == (2, 3)  # it ended before
    with pytest.raises(OptionError, match="one that calls none"):
        step_of_file(path, ["0"])
    with pytest.raises(OptionError, match="a Python file, but got"):
        step_of_file(tmp_path / "nothing.py")
