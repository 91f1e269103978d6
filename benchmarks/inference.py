"""Inference on the native executor against PyTorch and onnxruntime: the table of paired ratios.

    python dev.py bench inference [--threads N] [--rounds N] [--batches 1 64] [W1 W2 ...]

The networks of ``workloads`` in eval mode, from the same weights. The peers are at their best:
PyTorch under ``inference_mode``, images channels_last too; onnxruntime with all its optimisations
on a graph of fixed shape, its input and output bound to memory once. Ours is a compiled function
that is handed an array, as a user calls it. Measured as in ``training``: candidates take turns, a
ratio is the peer's time over ours in the same round, its interval holds 90% of bootstrap medians.
Needs the packages torch, onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from training import OURS, interval, measure
from workloads import WORKLOADS, Workload

import chainrule as cr
from chainrule.run.native.target import host
from chainrule.run.native.team import team

Array = np.ndarray[Any, Any]
Run = Callable[[], Any]
ONNX = "onnxruntime"


def data_of(workload: Workload, batch: int) -> Array:
    """So many inputs of a workload, repeated if its own batch is smaller."""
    inputs, _ = workload.data()
    return np.resize(inputs, (batch, *inputs.shape[1:]))


def chainrule_inference(workload: Workload, batch: int) -> Run:
    """The network in chainrule, compiled, on the executor that is set."""
    from chainrule import nn

    cr.manual_seed(0)
    model = workload.model(nn)
    model.eval()
    run = cr.compile(lambda inputs: model(inputs))
    inputs = data_of(workload, batch)
    return lambda: run(inputs)


def _twin(workload: Workload) -> Any:
    """The network in PyTorch, from the same weights."""
    import torch

    from chainrule import nn

    cr.manual_seed(0)
    start = workload.model(nn).state_dict()
    model = workload.model(torch.nn)
    model.load_state_dict({name: torch.tensor(x.numpy()) for name, x in start.items()})
    return model.eval()


def torch_inference(workload: Workload, batch: int, channels_last: bool = False) -> Run:
    """The network in PyTorch, eager.

    Args:
        channels_last: images and weights lie with their channels innermost.
    """
    import torch

    model, inputs = _twin(workload), torch.from_numpy(data_of(workload, batch))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.to(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.inference_mode():
            return model(inputs)

    return run


def onnx_inference(workload: Workload, batch: int, threads: int = 1) -> Run:
    """The network in onnxruntime, exported from PyTorch for this batch."""
    import onnxruntime
    import torch

    inputs, file = data_of(workload, batch), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age; it writes LSTM as one op
        torch.onnx.export(
            _twin(workload), (torch.from_numpy(inputs),), file, dynamo=False, opset_version=17
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    outputs = np.empty(made.shape, np.float32)
    binding = session.io_binding()
    for bind, name, array in (
        (binding.bind_input, given.name, inputs), (binding.bind_output, made.name, outputs)
    ):  # fmt: skip
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    bound = inputs, outputs  # the session knows their addresses alone; run keeps them

    def run() -> Array:
        session.run_with_iobinding(binding)
        return bound[1]

    return run


def candidates_of(workload: Workload, batch: int, threads: int) -> dict[str, Run]:
    """Everyone who takes part, by name; ours is the first."""
    found = {
        OURS: chainrule_inference(workload, batch),
        "torch eager": torch_inference(workload, batch),
        ONNX: onnx_inference(workload, batch, threads),
    }
    if data_of(workload, 1).ndim == 4:
        found["torch channels_last"] = torch_inference(workload, batch, channels_last=True)
    return found


def check(results: dict[str, Any]) -> None:
    """Raise if the candidates do not compute the same."""
    ours = results[OURS].numpy()
    for name, each in results.items():
        array = ours if name == OURS else np.asarray(each)
        if not np.allclose(array, ours, rtol=1e-3, atol=1e-4 * np.abs(ours).max()):
            raise AssertionError(f"{name} differs by {np.abs(array - ours).max()}")


def compare(
    workload: Workload, batch: int, threads: int, rounds: int
) -> tuple[list[str], dict[str, float]]:
    """The lines of one workload, and each peer's time over ours."""
    candidates = candidates_of(workload, batch, threads)
    check({name: run() for name, run in candidates.items()})
    times, busy = measure(candidates, rounds, pause=0.25 if threads > 1 else 0.0)
    lines, ratios = [], {}
    for name, each in times.items():
        text = ""
        if name != OURS:
            paired = each / times[OURS]
            low, high = interval(paired)
            ratios[name] = float(np.median(paired))
            text = f"{ratios[name]:.2f} ({low:.2f}-{high:.2f})"
        lines.append(
            f"| {workload.name} | {batch} | {name} | {1e3 * float(np.median(each)):.4f} | "
            f"{busy[name] / threads:.0%} | {text} |"
        )
    return lines, ratios


def main() -> int:
    """Print the table; 1 if onnxruntime is faster on the geometric mean of a batch size."""
    parser = argparse.ArgumentParser(description="Inference against PyTorch and onnxruntime.")
    parser.add_argument("names", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    team.set_threads(options.threads)
    cr.set_executor("native")
    print(f"{host().cpu}, {options.threads} thread(s)\n")
    print("| | batch | candidate | ms | CPU | peer / ours (90%) |")
    print("|---|---|---|---|---|---|")
    slower = False
    for batch in options.batches:
        found: dict[str, list[float]] = {}
        for name in options.names:
            lines, ratios = compare(WORKLOADS[name], batch, options.threads, options.rounds)
            print("\n".join(lines), flush=True)
            for peer, ratio in ratios.items():
                found.setdefault(peer, []).append(ratio)
        for peer, each in found.items():
            mean = math.exp(sum(map(math.log, each)) / len(each))
            print(f"| geometric mean of {len(each)} | {batch} | {peer} | | | {mean:.2f} |")
        slower |= math.prod(found[ONNX]) < 1
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
