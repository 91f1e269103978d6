"""Angles from slopes."""

from __future__ import annotations

import numpy as np

from chainrule.core.op import Notation, Op, floating, register
from chainrule.core.shape_rules import same_type

atan = register(
    Op(
        "atan",
        same_type,
        np.arctan,
        (lambda g, y, x: g / (1 + x * x),),
        Notation.call("atan", r"\arctan"),
        operands=floating,
        elementwise=True,
    )
)
