"""The matrix products and convolutions of a step, and nothing else, by the libraries under PyTorch.

    python dev.py bench products [W2 ...]

MKL's products, into memory that is there, and oneDNN's convolutions, each in the layout that suits
it best, into memory that PyTorch gives: no bias, activation, norm, loss or update, no Python of
layers. What share of the FMA peak they reach tells how far that of a whole step can be from it.
Attention's products are not among them.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from workloads import WORKLOADS, Step, Workload, torch_model


class Product(NamedTuple):
    """One product: how it is computed, its products and sums, how often a step computes it."""

    run: Callable[[], Any]
    flops: float
    count: int = 1


def products_step(workload: Workload) -> tuple[Step, float]:
    """All products of a step, one after the other; and how many products and sums they are."""
    import torch

    found = _products(workload)
    runs = [each.run for each in found for _ in range(each.count)]

    def step() -> float:
        with torch.inference_mode():
            for run in runs:
                run()
        return 0.0

    return step, sum(each.flops * each.count for each in found)


def _products(workload: Workload) -> list[Product]:
    """Those of the layers, as they come by in a forward pass."""
    import torch

    found: list[Product] = []
    model = torch_model(workload)
    inputs = torch.from_numpy(workload.data()[0])
    layers = {
        torch.nn.Linear: _linear, torch.nn.Conv2d: _convolution, torch.nn.LSTM: _lstm
    }  # fmt: skip

    def seen(module: Any, given: tuple[Any, ...], result: Any) -> None:
        is_first = not found and inputs.is_floating_point()  # the gradient of data is not made
        found.extend(layers[type(module)](module, given[0], result, is_first))

    for module in model.modules():
        if type(module) in layers:
            module.register_forward_hook(seen)
    with torch.inference_mode():
        model(inputs)
    return found


def _matmul(m: int, k: int, n: int, a: str = "", b: str = "", count: int = 1) -> Product:
    """m x k times k x n; an operand that is "turned" lies by columns."""
    import torch

    left = torch.randn(k, m).T if a == "turned" else torch.randn(m, k)
    right = torch.randn(n, k).T if b == "turned" else torch.randn(k, n)
    result = torch.empty(m, n)
    return Product(lambda: torch.mm(left, right, out=result), 2.0 * m * k * n, count)


def _linear(module: Any, x: Any, y: Any, is_first: bool) -> Iterator[Product]:
    outputs, inputs = module.weight.shape
    rows = x.numel() // inputs
    yield _matmul(rows, inputs, outputs, b="turned")
    yield _matmul(outputs, rows, inputs, a="turned")
    if not is_first:
        yield _matmul(rows, outputs, inputs)


def _lstm(module: Any, x: Any, y: Any, is_first: bool) -> Iterator[Product]:
    """Those of x are done for all times at once."""
    batch, length, inputs = x.shape
    gates, state = module.weight_hh_l0.shape
    yield _matmul(batch * length, inputs, gates, b="turned")
    yield _matmul(batch, state, gates, b="turned", count=length)
    yield _matmul(batch, gates, state, count=length)
    yield _matmul(gates, batch * length, state, a="turned")
    yield _matmul(gates, batch * length, inputs, a="turned")
    yield _matmul(batch * length, gates, inputs)


def _convolution(module: Any, x: Any, y: Any, is_first: bool) -> Iterator[Product]:
    import torch

    flops = 2.0 * y.numel() * module.weight[0].numel()
    stride, padding = list(module.stride), list(module.padding)
    backward = torch.ops.aten.convolution_backward

    def made(layout: Any) -> list[Callable[[], Any]]:
        image, weight, change = (
            torch.randn(each.shape).to(memory_format=layout) for each in (x, module.weight, y)
        )

        def gradient(of: int) -> Callable[[], Any]:
            mask = [of == number for number in range(3)]
            rest = None, stride, padding, [1, 1], False, [0, 0], 1, mask
            return lambda: backward(change, image, weight, *rest)

        def forward() -> Any:
            return torch.conv2d(image, weight, stride=stride, padding=padding)

        return [forward, gradient(1), *([] if is_first else [gradient(0)])]

    with torch.inference_mode():
        for pair in zip(made(torch.contiguous_format), made(torch.channels_last), strict=True):
            yield Product(min(pair, key=_seconds), flops)


def _seconds(run: Callable[[], Any]) -> float:
    run()
    return min(timeit.repeat(run, number=1, repeat=3))


def main() -> int:
    """Print the shares."""
    from candidates import PRODUCTS
    from figures import median, share
    from measuring import QUICK, products_rows

    for name in sys.argv[1:] or WORKLOADS:
        rows, notes = products_rows(name, QUICK)
        for note in notes:
            print(note)
        for row in rows:
            print(
                f"{name}: {row.flops / 1e9:.2f} GFLOP in {1e3 * median(row):.2f} ms by {PRODUCTS}, "
                f"{share(row).median:.0%} of the peak"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
