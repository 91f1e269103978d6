"""Where the time of a step goes: ``cr.profile(step, x, y)``.

The package can be called: ``chainrule.profile(...)`` is
:func:`chainrule.profile.measure.profile`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from chainrule.profile.measure import profile
from chainrule.profile.record import Profile, Row, Total

__all__ = ["Profile", "Row", "Total", "profile"]


class _Callable(ModuleType):
    """A module that can be called, so that the function and its package share one name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Profile:
        return profile(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
