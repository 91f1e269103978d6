"""Why a graph can't be run here."""

from __future__ import annotations


class NoKernelError(Exception):
    """The graph has an op that this engine has no kernel for."""
