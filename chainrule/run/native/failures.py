"""Why a graph can't be run here."""

from __future__ import annotations


class NoKernelError(Exception):
    """The graph has an op that this engine has no kernel for."""


class WideError(NoKernelError):
    """The graph has tensors of float64, which are the interpreter's (decision 14): no gap."""
