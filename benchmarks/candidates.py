"""Everyone who takes part: a name, the package it needs, and how its step is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from common import Array
from workloads import Step, Workload, chainrule_step, torch_model, torch_step

OURS, ONNX, JAX, PEAK = "chainrule", "onnxruntime", "jax", "FMA loop"
PRODUCTS = "the libraries of torch"
EAGER, FUSED, NHWC, COMPILED = "torch", "torch fused", "torch channels_last", "torch.compile"


def training(workload: Workload, compiled: bool = False) -> list[str]:
    """Who trains a workload, ours first; ``torch.compile`` if asked for."""
    images = [NHWC] if workload.data()[0].ndim == 4 else []
    return [OURS, EAGER, FUSED, *images, JAX, *([COMPILED] if compiled else [])]


def inference(workload: Workload, compiled: bool = False) -> list[str]:
    """Who predicts with a workload."""
    images = [NHWC] if workload.data()[0].ndim == 4 else []
    return [OURS, EAGER, *images, ONNX, JAX, *([COMPILED] if compiled else [])]


def training_step(name: str, workload: Workload, start: Mapping[str, Array] | None) -> Step:
    """A step of training, from these weights or, for PyTorch and us, from weights of its own."""
    if name == OURS:
        return chainrule_step(workload)
    if name == JAX:
        from peers_jax import jax_step
        from workloads import start_of

        return jax_step(workload, start_of(workload) if start is None else start)
    options: dict[str, dict[str, Any]] = {
        EAGER: {"fused": False},
        FUSED: {"fused": True},
        NHWC: {"fused": True, "channels_last": True},
        COMPILED: {"fused": True, "compiled": True},
    }
    return torch_step(workload, **options[name], start=start)


def inference_step(name: str, workload: Workload, batch: int, threads: int) -> Step:
    """A prediction for a batch."""
    from inference import chainrule_inference, data_of, onnx_inference, torch_inference
    from workloads import start_of

    if name == JAX:
        from peers_jax import jax_inference

        return jax_inference(workload, start_of(workload), data_of(workload, batch))
    if name == COMPILED:
        return _compiled_inference(workload, data_of(workload, batch))
    make: dict[str, Callable[[], Step]] = {
        OURS: lambda: chainrule_inference(workload, batch),
        EAGER: lambda: torch_inference(workload, batch),
        NHWC: lambda: torch_inference(workload, batch, channels_last=True),
        ONNX: lambda: onnx_inference(workload, batch, threads),
    }
    return make[name]()


def _compiled_inference(workload: Workload, inputs: Array) -> Step:
    import torch

    model, given = torch.compile(torch_model(workload).eval()), torch.from_numpy(inputs)

    def run() -> Any:
        with torch.inference_mode():
            return model(given)

    return run


# ------------------------------------------------------------------------------ threads


def set_threads(name: str, threads: int) -> None:
    """How many threads a candidate may use; to be called before its step is made."""
    if name == OURS:
        from chainrule.run.native.team import team

        team.set_threads(threads)
    elif name == JAX:
        from peers_jax import limit_threads

        limit_threads(threads)
    elif name not in (ONNX, PEAK):
        import torch

        torch.set_num_threads(threads)


def keep_on(threads: int) -> None:
    """Keep all threads of this process on as many cores as it has threads, the last ones.

    So every candidate has the same cores, and the program that gives the turns has another.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)
