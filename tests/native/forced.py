"""Processors other than this one: their targets, and plans made for them on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from chainrule.run.native import jit
from chainrule.run.native.target import Target, host, target_for

SSE2 = {"sse2": True}
AVX2 = {**SSE2, "sse4.1": True, "avx": True, "avx2": True, "fma": True}
AVX512 = {**AVX2, "avx512f": True, "avx512vl": True, "avx512bw": True, "avx512dq": True}
LINUX = "x86_64-unknown-linux-gnu"
TARGETS = {
    "sse2": target_for(LINUX, "x86-64", SSE2),
    "avx2": target_for(LINUX, "haswell", AVX2),
    "avx512": target_for(LINUX, "skylake-avx512", AVX512),
    "neon": target_for("aarch64-unknown-linux-gnu", "cortex-a72", {"neon": True}),
}


def runs_here(target: Target) -> bool:
    """Whether this processor can do what the target needs."""
    here = host()
    family = target.triple.split("-")[0]
    needed = {word for word in target.features.split(",") if word[0] == "+"}
    return here.triple.startswith(family) and needed <= set(here.features.split(","))


@contextmanager
def forced(target: Target) -> Iterator[None]:
    """Inside, plans are made for this target."""
    users = [
        module for name, module in sys.modules.items()
        if name.startswith("chainrule.run.native.") and getattr(module, "host", None) is host
    ]  # fmt: skip
    jit.object_for.cache_clear()
    for module in users:
        module.host = lambda: target  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in users:
            module.host = host  # type: ignore[attr-defined]
        jit.object_for.cache_clear()
