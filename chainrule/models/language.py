"""What BERT, GPT-2 and the translator share: configurations, masks, and choosing the next token."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from chainrule import nn
from chainrule.errors import OptionError, closest
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.tensor.functions import rand, sort, where
from chainrule.tensor.state import Epoch
from chainrule.tensor.tensor import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda z: F.gelu(z, approximate="tanh"),
    "gelu_pytorch_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function that a configuration names."""
    if name not in ACTIVATIONS:
        near = closest(name, ACTIVATIONS)
        raise OptionError(
            name="activation",
            expected=f"one of {', '.join(ACTIVATIONS)}",
            got=repr(name),
            mend=f"did you mean {near!r}?" if near else "",
        )
    return ACTIVATIONS[name]


class Config:
    """Base of the configurations: dataclasses with the names of a checkpoint's ``config.json``."""

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """From the contents of ``config.json``; entries that a model here has no use for are left.

        Example:
            >>> from chainrule.models import GPT2Config
            >>> GPT2Config.from_dict({"n_layer": 2, "architectures": ["GPT2LMHeadModel"]}).n_layer
            2
        """
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in facts.items() if key in known})


def draw_weights(model: nn.Module, std: float) -> None:
    """Weights from N(0, std^2), biases and padding rows 0, norms 1: how BERT and GPT-2 start."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.reset_parameters()
            module.weight.mul_(std)
            continue
        for name, value in vars(module).items():
            if not isinstance(value, nn.Parameter):
                continue
            if name == "bias":
                init.zeros_(value)
            elif not isinstance(module, nn.LayerNorm):
                init.normal_(value, std=std)


class Pretrained(nn.Module):
    """A module that takes checkpoints in which old versions left things that are not weights."""

    not_weights: tuple[str, ...] = ()

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Any:
        """As of every module, without the masks and counters that old checkpoints hold."""
        kept = {key: value for key, value in state.items() if not key.endswith(self.not_weights)}
        return super().load_state_dict(kept, strict)


def padding_mask(attention_mask: Tensor | None) -> Tensor | None:
    """(batch, length), 1 for tokens and 0 for padding, to a mask (batch, 1, 1, length)."""
    if attention_mask is None:
        return None
    return attention_mask.bool().reshape(attention_mask.shape[0], 1, 1, -1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inference mode inside, and afterwards every module in the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            object.__setattr__(module, "training", True)
        Epoch.bump()


def next_token(logits: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """One token for each row of scores (batch, words): (batch, 1).

    Token i is drawn with probability softmax(logits / temperature)_i, of the ``top_k`` likeliest
    alone where that is given; temperature 0 takes the likeliest.

    A draw is argmax(logits / temperature + G) with G = -ln(-ln(U)), U uniform: Gumbel, 1954.
    """
    if temperature < 0:
        raise OptionError(name="temperature", expected="0 or more", got=temperature, mend="")
    if top_k is not None and top_k < logits.shape[-1]:
        if top_k < 1:
            raise OptionError(name="top_k", expected="at least 1", got=top_k, mend="")
        least = sort(logits, -1, descending=True).values[:, top_k - 1 : top_k]
        logits = where(logits < least, float("-inf"), logits)
    if temperature:
        u = rand(*logits.shape, dtype=logits.dtype)
        logits = logits / temperature - (-u.log()).log()
    return logits.argmax(-1, keepdim=True)
