"""Nodes that do the same to their inputs have one number."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.core import subgraph
from chainrule.core.op import constant


def test_kinds_are_equal_for_what_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    f32 = np.dtype(np.float32)
    numbers = [constant(x, f32) for x in (0.0, -0.0, 1.0, 0.0)]
    kinds = [subgraph.kind_of(node) for node in numbers]
    assert kinds[0] == kinds[3]
    assert len(set(kinds)) == 3
    monkeypatch.setattr(subgraph, "_KINDS_KEPT", len(subgraph._kinds))
    fresh = [subgraph.kind_of(constant(x, f32)) for x in (12.5, 13.5)]  # the table starts anew
    assert len({*kinds, *fresh}) == 5
