"""Ordinary PyTorch programs, run under both libraries by changing their imports only.

Both sides get the same random numbers from NumPy: for initial weights, for ``torch.randn`` and its
kin, and for the order of shuffled data. So every loss can be compared, step by step. Dropout masks
are drawn by chainrule, recorded, and given to PyTorch.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pasted import with_our_imports

import chainrule as cr
from chainrule import like_torch
from chainrule.like_torch import making
from chainrule.nn import functional, functional_activations, init
from chainrule.tensor import variable

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
# Programs in float64 agree to 1e-9. In float32 one rounding is 6e-8; each step adds some, and
# training can double a difference many times over; seen are up to 8e-6 after 300 steps.
FLOAT64 = {p.stem for p in PROGRAMS if "float64" in p.read_text("utf-8")}
FLOAT32_TOLERANCE = 5e-5


def without_imports(source: str) -> str:
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.dump(tree)


class Shared:
    """The same random numbers for both libraries, and the dropout masks that ours drew.

    Initial weights are not set from outside: each library's layers draw their own, with their own
    bounds and in their own order, and only the numbers between 0 and 1, or from N(0, 1), that they
    draw come from NumPy. So default initial values are compared too.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.masks: list[np.ndarray[Any, Any]] = []

    def seed(self, lib: Any) -> None:
        """Make one library draw from NumPy, from the start."""
        rng = np.random.RandomState(0)
        lib.manual_seed(0)
        patch = self.monkeypatch.setattr

        def maker(draw: Callable[[Any], Any]) -> Callable[..., Any]:
            def make(*size: Any, dtype: Any = None, device: Any = None, **options: Any) -> Any:
                shape = size[0] if size and isinstance(size[0], tuple) else size
                dtype = dtype or lib.get_default_dtype()
                return lib.tensor(draw(shape), dtype=dtype, **options)

            return make

        rand, randn = maker(rng.random_sample), maker(rng.standard_normal)

        def randint(*bounds: Any, device: Any = None, **options: Any) -> Any:
            *bounds, size = (*bounds, *options.values())
            return lib.tensor(rng.randint(*bounds, size=tuple(size)))

        def randperm(n: int, **_: Any) -> Any:
            return lib.tensor(rng.permutation(n))

        def multinomial(input: Any, num_samples: int, replacement: bool = False, **_: Any) -> Any:
            """The column where the running sum of the probabilities passes a uniform number."""
            assert replacement or num_samples == 1
            weights = input.detach().numpy().astype("float64")
            edges = (weights / weights.sum(-1, keepdims=True)).cumsum(-1)[..., None, :]
            drawn = (edges < rng.random_sample((*weights.shape[:-1], num_samples, 1))).sum(-1)
            return lib.tensor(drawn.clip(max=weights.shape[-1] - 1))

        def shuffled(sampler: Any) -> Iterator[int]:
            return iter(rng.permutation(len(sampler.data_source)).tolist())

        patch(lib, "rand", rand)
        patch(lib, "randn", randn)
        patch(lib, "randn_like", lambda x: randn(tuple(x.shape), dtype=x.dtype))
        patch(lib, "randint", randint)
        patch(lib, "randperm", randperm)
        patch(lib, "multinomial", multinomial)
        data = lib.utils.data
        patch(getattr(data, "dataset", data), "randperm", randperm)  # for random_split
        patch(data.RandomSampler, "__iter__", shuffled)
        if lib is torch:  # all initial values are drawn through these two methods

            def uniform_(x: Any, a: float = 0.0, b: float = 1.0, **_: Any) -> Any:
                return x.detach().copy_(rand(tuple(x.shape), dtype=x.dtype) * (b - a) + a)

            def normal_(x: Any, mean: float = 0.0, std: float = 1.0, **_: Any) -> Any:
                return x.detach().copy_(randn(tuple(x.shape), dtype=x.dtype) * std + mean)

            patch(torch.Tensor, "uniform_", uniform_)
            patch(torch.Tensor, "normal_", normal_)
        else:  # and here through these two functions
            patch(making, "multinomial", multinomial)
            for module in (init, variable):
                patch(module, "rand", rand)
                patch(module, "randn", randn)

    @contextmanager
    def recorded_dropout(self) -> Iterator[None]:
        """Keep the masks of our dropout: what is 0 after it counts as dropped.

        An entry that was 0 before has no gradient either way: in these programs dropout follows
        ReLU.
        """
        self.masks = []

        def recording(draw: Callable[..., Any]) -> Callable[..., Any]:
            def drop(x: Any, p: float = 0.5, training: bool = True) -> Any:
                y = draw(x, p, training)
                if training and p:
                    self.masks.append(y.numpy() != 0)
                return y

            return drop

        with self.monkeypatch.context() as patches:
            for module, name in ((functional, "dropout"), (functional_activations, "dropout2d")):
                patches.setattr(module, name, recording(getattr(module, name)))
            yield

    def replay_dropout(self) -> Iterator[np.ndarray[Any, Any]]:
        """PyTorch drops by the recorded masks; returned are those not used yet."""
        masks = iter(self.masks)

        def replayed(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            return x * torch.from_numpy(next(masks)) / (1 - p) if training and p else x

        self.monkeypatch.setattr("torch.nn.functional.dropout", replayed)
        self.monkeypatch.setattr("torch.nn.functional.dropout2d", replayed)
        return masks


def run(path: Path, source: str) -> dict[str, Any]:
    """The names of a program after it ran."""
    module = types.ModuleType("__main__")
    exec(compile(source, str(path), "exec"), vars(module))
    return vars(module)


EXECUTORS = ("interpreter", "torch")
Losses = dict[str, list[float]]


@pytest.fixture
def losses_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[Path], Losses]]:
    """The losses of a program under PyTorch and under chainrule, on each executor."""
    monkeypatch.chdir(tmp_path)
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)

    def compare(path: Path) -> Losses:
        source = path.read_text("utf-8")
        shared, found = Shared(monkeypatch), {}
        for executor in EXECUTORS:
            cr.set_executor(executor)
            cr.set_default_dtype("float32")
            shared.seed(like_torch)
            with shared.recorded_dropout():
                found[executor] = run(path, with_our_imports(source))["losses"]
        shared.seed(torch)
        replayed = shared.replay_dropout()
        found["PyTorch"] = run(path, source)["losses"]
        assert not any(True for _ in replayed), "PyTorch used fewer dropout masks"
        return found

    yield compare
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def test_there_are_thirty() -> None:
    assert len(PROGRAMS) >= 30


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_only_import_lines_change(path: Path) -> None:
    source = path.read_text("utf-8")
    changed = with_our_imports(source)
    assert not re.search(r"^\s*(import|from) torch", changed, re.MULTILINE)
    assert without_imports(changed) == without_imports(source)
    pairs = zip(source.splitlines(), changed.splitlines(), strict=True)
    for old, new in pairs:
        assert old == new or old.startswith(("import torch", "from torch"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_same_losses(path: Path, losses_of: Callable[[Path], Losses]) -> None:
    found = losses_of(path)
    theirs = found.pop("PyTorch")
    assert len(theirs) > 10
    rtol = 1e-9 if path.stem in FLOAT64 else FLOAT32_TOLERANCE
    for executor, ours in found.items():
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=0, err_msg=executor)
