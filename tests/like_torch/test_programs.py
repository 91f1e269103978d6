"""Ordinary PyTorch programs, run under both libraries by changing their imports only.

Both sides get the same random numbers from NumPy: initial weights of every Linear, ``torch.randn``,
and the order of shuffled data. So every loss can be compared, step by step. Dropout masks are drawn
by chainrule, recorded, and given to PyTorch.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import like_torch
from chainrule.nn import functional

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
# Programs in float64 agree to 1e-9. In float32 one rounding is 6e-8; each step adds some, and
# training can double a difference many times over; seen are up to 8e-6 after 300 steps.
FLOAT64 = {"autograd_basics", "schedulers"}
FLOAT32_TOLERANCE = 5e-5

IMPORT_LINES = [
    (r"import torch", "import chainrule.like_torch as torch"),
    (r"import torch\.([\w.]+) as (\w+)", r"import chainrule.like_torch.\1 as \2"),
    (r"from torch import (.+)", r"from chainrule.like_torch import \1"),
    (r"from torch\.([\w.]+) import (.+)", r"from chainrule.like_torch.\1 import \2"),
    (r"from torchvision import (.+)", r"from chainrule.like_torch.vision import \1"),
]


def with_our_imports(source: str) -> str:
    """The program with its import lines replaced, and nothing else."""
    for pattern, replacement in IMPORT_LINES:
        source = re.sub(rf"^{pattern}$", replacement, source, flags=re.MULTILINE)
    return source


def without_imports(source: str) -> str:
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.dump(tree)


class Shared:
    """The same random numbers for both libraries, and the dropout masks that ours drew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.masks: list[np.ndarray[Any, Any]] = []

    def seed(self, lib: Any) -> None:
        """Make one library draw from NumPy, from the start."""
        rng = np.random.RandomState(0)
        patch = self.monkeypatch.setattr

        def randn(*size: Any, dtype: Any = None, device: Any = None, **options: Any) -> Any:
            shape = size[0] if size and isinstance(size[0], tuple) else size
            dtype = dtype or lib.get_default_dtype()
            return lib.tensor(rng.standard_normal(shape), dtype=dtype, **options)

        def randperm(n: int, **_: Any) -> Any:
            return lib.tensor(rng.permutation(n))

        def shuffled(sampler: Any) -> Iterator[int]:
            return iter(rng.permutation(len(sampler.data_source)).tolist())

        make_linear = lib.nn.Linear.__init__

        def linear(layer: Any, n_in: int, n_out: int, **options: Any) -> None:
            make_linear(layer, n_in, n_out, **options)
            bound = 1 / np.sqrt(n_in)
            for p in layer.parameters():
                values = rng.uniform(-bound, bound, tuple(p.shape))
                p.data.copy_(lib.tensor(values, dtype=p.dtype))

        data = lib.utils.data
        patch(lib, "randn", randn)
        patch(getattr(data, "dataset", data), "randperm", randperm)  # for random_split
        patch(data.RandomSampler, "__iter__", shuffled)
        patch(lib.nn.Linear, "__init__", linear)

    def record_dropout(self) -> None:
        """Keep the masks of our dropout: what is 0 after it counts as dropped.

        An entry that was 0 before has no gradient either way: in these programs dropout follows
        ReLU.
        """
        draw = functional.dropout

        def recording(x: Any, p: float = 0.5, training: bool = True) -> Any:
            y = draw(x, p, training)
            if training and p:
                self.masks.append(y.numpy() != 0)
            return y

        self.monkeypatch.setattr("chainrule.nn.functional.dropout", recording)

    def replay_dropout(self) -> Iterator[np.ndarray[Any, Any]]:
        """PyTorch drops by the recorded masks; returned are those not used yet."""
        masks = iter(self.masks)

        def replayed(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            return x * torch.from_numpy(next(masks)) / (1 - p) if training and p else x

        self.monkeypatch.setattr("torch.nn.functional.dropout", replayed)
        return masks


def run(path: Path, source: str) -> dict[str, Any]:
    """The names of a program after it ran."""
    module = types.ModuleType("__main__")
    exec(compile(source, str(path), "exec"), vars(module))
    return vars(module)


@pytest.fixture
def both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[Path], tuple[list[float], list[float]]]]:
    """The losses of a program under PyTorch and under chainrule."""
    monkeypatch.chdir(tmp_path)
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)

    def compare(path: Path) -> tuple[list[float], list[float]]:
        source = path.read_text("utf-8")
        shared = Shared(monkeypatch)
        shared.seed(like_torch)
        shared.record_dropout()
        ours = run(path, with_our_imports(source))["losses"]
        shared.seed(torch)
        replayed = shared.replay_dropout()
        theirs = run(path, source)["losses"]
        assert not any(True for _ in replayed), "PyTorch used fewer dropout masks"
        return theirs, ours

    yield compare
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def test_there_are_ten() -> None:
    assert len(PROGRAMS) == 10


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_only_import_lines_change(path: Path) -> None:
    source = path.read_text("utf-8")
    changed = with_our_imports(source)
    assert not re.search(r"^\s*(import|from) torch", changed, re.MULTILINE)
    assert without_imports(changed) == without_imports(source)
    pairs = zip(source.splitlines(), changed.splitlines(), strict=True)
    for old, new in pairs:
        assert old == new or old.startswith(("import torch", "from torch"))


@pytest.mark.parametrize("executor", ["interpreter", "torch"])
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_same_losses(
    path: Path, executor: str, both: Callable[[Path], tuple[list[float], list[float]]]
) -> None:
    cr.set_executor(executor)
    theirs, ours = both(path)
    assert len(theirs) == len(ours) > 10
    rtol = 1e-9 if path.stem in FLOAT64 else FLOAT32_TOLERANCE
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=0)
