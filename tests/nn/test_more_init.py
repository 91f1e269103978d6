"""Truncated normal, orthogonal, identity and Dirac initial values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import init


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(np.zeros(shape))


def test_truncated_normal() -> None:
    values = init.trunc_normal_(parameter(100, 200), 0.5, 1.0, -1.0, 1.5).numpy()
    assert values.min() >= -1
    assert values.max() <= 1.5
    torch.manual_seed(0)  # else what it draws depends on the tests before
    theirs = torch.nn.init.trunc_normal_(torch.zeros(100, 200), 0.5, 1.0, -1.0, 1.5).numpy()
    assert abs(values.mean() - theirs.mean()) < 0.02
    assert abs(values.std() - theirs.std()) < 0.02
    with pytest.raises(OptionError):
        init.trunc_normal_(parameter(2), a=1, b=0)
    with pytest.raises(OptionError):
        init.trunc_normal_(parameter(2), mean=9)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (4, 2, 3, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    rows = init.orthogonal_(parameter(*shape), gain=2.0).numpy().reshape(shape[0], -1)
    product = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)
    with pytest.raises(ShapeError):
        init.orthogonal_(parameter(3))


def test_identity() -> None:
    np.testing.assert_array_equal(init.eye_(parameter(2, 3)).numpy(), np.eye(2, 3))
    with pytest.raises(ShapeError):
        init.eye_(parameter(3))


@pytest.mark.parametrize(
    ("shape", "groups"), [((4, 3, 3), 1), ((2, 4, 3, 2), 1), ((6, 2, 5, 5), 3)]
)
def test_dirac(shape: tuple[int, ...], groups: int) -> None:
    found = init.dirac_(parameter(*shape), groups).numpy()
    expected = torch.nn.init.dirac_(torch.zeros(*shape), groups).numpy()
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ShapeError):
        init.dirac_(parameter(5, 2, 3), 2)
