"""For every op: sample cases with PyTorch's answer, its kinks, and NaN and infinity.

``test_conformance.py`` walks them beside the table of ops; an op that is missing here fails.
"""

from __future__ import annotations

import cases_activations
import cases_arithmetic
import cases_attention
import cases_functions
import cases_losses
import cases_random
import cases_recurrent
import cases_shape
import cases_vision
from oracle import Case

from chainrule.core.op import OPS, Op

# The ops of the library. Functions that other tests register come later, and are not in it.
LIBRARY: dict[str, Op] = dict(OPS)

_FAMILIES = (
    cases_arithmetic,
    cases_shape,
    cases_functions,
    cases_random,
    cases_recurrent,
    cases_attention,
    cases_vision,
    cases_activations,
    cases_losses,
)

# Smooth points (at least 1e-2 from a kink), odd shapes, broadcasting, negative axes, no entries.
CASES: dict[str, list[Case]] = {}
# Points on a kink, where PyTorch says which slope counts.
KINKS: dict[str, list[Case]] = {}
# NaN, the infinities, both zeros, and numbers near the ends of the float range.
SPECIALS: dict[str, list[Case]] = {}

for _family in _FAMILIES:
    CASES |= _family.CASES
    KINKS |= _family.KINKS
    SPECIALS |= _family.SPECIALS
