"""The derivation of any network, in symbols and in numbers: ``cr.explain(model, x, y, loss=...)``.

The package can be called: ``chainrule.explain(...)`` is :func:`chainrule.explain.document.explain`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from chainrule.explain.document import Explanation, Settings, explain

__all__ = ["Explanation", "Settings", "explain"]


class _Callable(ModuleType):
    """A module that can be called, so that the function and its package share one name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Explanation:
        return explain(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
