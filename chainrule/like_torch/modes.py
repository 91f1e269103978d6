"""Switches around a block of code: ``no_grad``, ``enable_grad``, ``inference_mode``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from chainrule.core.graph import place

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class _GradMode:
    """A context manager, and a decorator with or without parentheses."""

    mode: bool

    def __new__(cls, function: Any = None) -> Any:
        made = super().__new__(cls)
        return made(function) if callable(function) else made

    def __init__(self, mode: bool = True) -> None:
        self._before: list[bool] = []
        self._mode = self.mode if mode else not self.mode

    def __enter__(self) -> None:
        self._before.append(place.gradients)
        place.gradients = self._mode

    def __exit__(self, *_: object) -> None:
        place.gradients = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        kind = type(self)

        @functools.wraps(function)
        def apply(*args: Any, **options: Any) -> Any:
            with kind():
                return function(*args, **options)

        return apply


class no_grad(_GradMode):
    """Inside, no gradient is remembered. Accepted, and not needed for speed."""

    mode = False


class inference_mode(_GradMode):
    """The same as ``no_grad``."""

    mode = False


class enable_grad(_GradMode):
    """Inside, gradients are remembered again."""

    mode = True


class set_grad_enabled:
    """From here on (or inside ``with``) gradients are remembered, or not."""

    def __init__(self, mode: bool) -> None:
        self._before = place.gradients
        place.gradients = bool(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        place.gradients = self._before


def is_grad_enabled() -> bool:
    """Whether gradients are remembered now."""
    return place.gradients
