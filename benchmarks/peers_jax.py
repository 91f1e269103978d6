"""The seven networks in plain JAX, as a good user writes them: jitted, buffers donated, NHWC.

Weights come in PyTorch's layout and are turned once, on the way in. A network is a function
``(p, s, x, key) -> (outputs, s)`` of the parameters ``p``, the running statistics ``s`` and a
random key, which is None in inference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from workloads import Array, Step, Workload

Tree = dict[str, Any]
Network = Callable[[Tree, Tree, Any, Any], tuple[Any, Tree]]


def limit_threads(threads: int) -> None:
    """Let JAX use so many cores; to be called before it starts.

    XLA makes as many threads as it sees cores, and has no public switch that holds for all of
    them; so the process is kept on that many cores.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


# ------------------------------------------------------------------------------ layers


def _linear(p: Tree, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _convolution(p: Tree, name: str, x: Any, stride: int = 1, padding: int = 0) -> Any:
    from jax import lax

    y = lax.conv_general_dilated(
        x, p[f"{name}.weight"], (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    bias = p.get(f"{name}.bias")
    return y if bias is None else y + bias


def _pool(x: Any) -> Any:
    import jax.numpy as jnp
    from jax import lax

    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _dropout(x: Any, rate: float, key: Any) -> Any:
    import jax
    import jax.numpy as jnp

    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0.0)


def _batch_norm(p: Tree, s: Tree, name: str, x: Any, training: bool, momentum: float = 0.1) -> Any:
    import jax.numpy as jnp
    from jax import lax

    mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
    if training:
        count = x.size // x.shape[-1]
        seen, spread = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        s[f"{name}.running_mean"] = mean + momentum * (seen - mean)
        s[f"{name}.running_var"] = variance + momentum * (spread * count / (count - 1) - variance)
        mean, variance = seen, spread
    scale = lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"]
    return (x - mean) * scale + p[f"{name}.bias"]


def _layer_norm(p: Tree, name: str, x: Any) -> Any:
    import jax.numpy as jnp
    from jax import lax

    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.var(x, -1, keepdims=True)
    scale = lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"]
    return (x - mean) * scale + p[f"{name}.bias"]


# ------------------------------------------------------------------------------ networks


def _mlp(p: Tree, s: Tree, x: Any, key: Any) -> tuple[Any, Tree]:
    import jax

    layers = sorted({int(name.partition(".")[0]) for name in p})
    for layer in layers[:-1]:
        x = jax.nn.relu(_linear(p, str(layer), x))
    return _linear(p, str(layers[-1]), x), s


def _digits(p: Tree, s: Tree, x: Any, key: Any) -> tuple[Any, Tree]:
    import jax

    keys = (None, None) if key is None else jax.random.split(key)
    x = jax.nn.relu(_convolution(p, "0", x))
    x = _pool(jax.nn.relu(_convolution(p, "2", x)))
    x = _dropout(x, 0.25, keys[0]).reshape(x.shape[0], -1)
    x = _dropout(jax.nn.relu(_linear(p, "7", x)), 0.5, keys[1])
    return _linear(p, "10", x), s


def _resnet20(p: Tree, s: Tree, x: Any, key: Any) -> tuple[Any, Tree]:
    import jax

    s = dict(s)
    norm = partial(_batch_norm, p, s, training=key is not None)
    x = jax.nn.relu(norm("body.1", _convolution(p, "body.0", x, padding=1)))
    for number in range(3, 12):
        name = f"body.{number}"
        stride = 2 if number in (6, 9) else 1
        y = jax.nn.relu(norm(f"{name}.norm1", _convolution(p, f"{name}.conv1", x, stride, 1)))
        y = norm(f"{name}.norm2", _convolution(p, f"{name}.conv2", y, padding=1))
        if stride == 2:
            x = norm(f"{name}.short.1", _convolution(p, f"{name}.short.0", x, stride))
        x = jax.nn.relu(y + x)
    return _linear(p, "head", x.mean((1, 2))), s


def _letters(p: Tree, s: Tree, x: Any, key: Any) -> tuple[Any, Tree]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    x = p["embedding.weight"][x].swapaxes(0, 1)
    bias = p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"]
    projected = x @ p["rnn.weight_ih_l0"] + bias  # of all steps at once
    width = p["rnn.weight_hh_l0"].shape[0]

    def cell(carry: tuple[Any, Any], z: Any) -> tuple[tuple[Any, Any], Any]:
        h, c = carry
        i, f, g, o = jnp.split(z + h @ p["rnn.weight_hh_l0"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[1], width))
    _, hidden = lax.scan(cell, (zero, zero), projected)
    return _linear(p, "head", hidden.swapaxes(0, 1)), s


def _gpt(p: Tree, s: Tree, x: Any, key: Any, heads: int = 4) -> tuple[Any, Tree]:
    import jax

    batch, length = x.shape
    x = p["tokens.weight"][x] + p["positions.weight"]
    width = x.shape[-1]
    blocks = sorted({int(name.split(".")[1]) for name in p if name.startswith("blocks.")})
    for name in (f"blocks.{number}" for number in blocks):
        parts = _linear(p, f"{name}.qkv", _layer_norm(p, f"{name}.norm1", x))
        q, k, v = (
            parts.reshape(batch, length, 3, heads, width // heads)[:, :, i] for i in range(3)
        )
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + _linear(p, f"{name}.out", y.reshape(batch, length, width))
        y = jax.nn.gelu(_linear(p, f"{name}.up", _layer_norm(p, f"{name}.norm2", x)), False)
        x = x + _linear(p, f"{name}.down", y)
    return _linear(p, "head", _layer_norm(p, "norm", x)), s


def _detector(p: Tree, s: Tree, x: Any, key: Any) -> tuple[Any, Tree]:
    import jax

    s = dict(s)
    for layer in (0, 4, 8, 12):
        x = _convolution(p, str(layer), x, padding=1)
        x = _batch_norm(p, s, str(layer + 1), x, training=key is not None)
        x = _pool(jax.nn.leaky_relu(x, 0.1))
    return _convolution(p, "16", x), s


NETWORKS: dict[str, Network] = {
    "mlp": _mlp, "digits": _digits, "resnet20": _resnet20, "letters": _letters, "gpt": _gpt,
    "detector": _detector,
}  # fmt: skip


# ------------------------------------------------------------------------------ from PyTorch


def _turned(workload: Workload, start: Mapping[str, Array]) -> tuple[Tree, Tree]:
    """Parameters and running statistics in JAX's layouts."""
    import jax.numpy as jnp

    p: Tree = {}
    s: Tree = {}
    for name, array in start.items():
        if "running" in name:
            s[name] = jnp.array(array)
        elif "num_batches" not in name:
            p[name] = jnp.array(_turn(workload, name, array))
    return p, s


def _turn(workload: Workload, name: str, array: Array) -> Array:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim != 2 or name.split(".")[0] in ("embedding", "tokens", "positions"):
        return array
    if workload.network == "digits" and name == "7.weight":  # reads images row by row here
        array = array.reshape(128, 64, 12, 12).transpose(0, 2, 3, 1).reshape(128, -1)
    return array.T


def _channels_last(images: Array) -> Array:
    return images.transpose(0, 2, 3, 1) if images.ndim == 4 else images


# ------------------------------------------------------------------------------ steps


def _loss(workload: Workload, outputs: Any, wanted: Any) -> Any:
    import jax
    import jax.numpy as jnp

    if workload.loss == "mse_loss":
        return jnp.mean((outputs - wanted) ** 2)
    scores = jax.nn.log_softmax(outputs.reshape(-1, outputs.shape[-1]))
    return -jnp.mean(jnp.take_along_axis(scores, wanted[:, None], 1))


def _update(workload: Workload, p: Tree, g: Tree, m: Tree, v: Tree, count: Any) -> Any:
    """One step of the workload's optimizer: new parameters and moments."""
    import jax.numpy as jnp
    from jax.tree_util import tree_map

    rate = workload.options["lr"]
    if workload.optimizer == "SGD":
        momentum = workload.options.get("momentum", 0.0)
        if momentum:
            m = tree_map(lambda m, g: momentum * m + g, m, g)
            g = m
        return tree_map(lambda p, g: p - rate * g, p, g), m, v
    m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    decay = 1 - rate * 0.01 if workload.optimizer == "AdamW" else 1.0
    size, root = rate / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)

    def moved(p: Any, m: Any, v: Any) -> Any:
        return decay * p - size * m / (jnp.sqrt(v) / root + 1e-8)

    return tree_map(moved, p, m, v), m, v


def jax_step(workload: Workload, start: Mapping[str, Array]) -> Step:
    """The training step in JAX; everything that changes is donated."""
    import jax
    import jax.numpy as jnp
    from jax.tree_util import tree_map

    network = NETWORKS[workload.network]
    p, s = _turned(workload, start)
    needs_first = workload.optimizer != "SGD" or "momentum" in workload.options
    m = tree_map(jnp.zeros_like, p if needs_first else {})
    v = tree_map(jnp.zeros_like, p if workload.optimizer != "SGD" else {})
    state = p, s, m, v, jnp.float32(0), jax.random.key(0, impl="rbg")  # the quick one on CPUs
    inputs, wanted = (jnp.array(_channels_last(each)) for each in workload.data())

    @partial(jax.jit, donate_argnums=0)
    def run(state: Any, inputs: Any, wanted: Any) -> Any:
        p, s, m, v, count, key = state
        key, once = jax.random.split(key)

        def loss_of(p: Tree) -> Any:
            outputs, after = network(p, s, inputs, once)
            return _loss(workload, outputs, wanted), after

        (loss, s), g = jax.value_and_grad(loss_of, has_aux=True)(p)
        p, m, v = _update(workload, p, g, m, v, count + 1)
        return loss, (p, s, m, v, count + 1, key)

    def step() -> float:
        nonlocal state
        loss, state = run(state, inputs, wanted)
        return float(loss)

    return step


def jax_inference(workload: Workload, start: Mapping[str, Array], inputs: Array) -> Step:
    """The network in inference; the input is on JAX's device already."""
    import jax
    import jax.numpy as jnp

    network = NETWORKS[workload.network]
    p, s = _turned(workload, start)
    given = jnp.array(_channels_last(inputs))
    run = jax.jit(lambda p, s, x: network(p, s, x, None)[0])
    return lambda: run(p, s, given).block_until_ready()
