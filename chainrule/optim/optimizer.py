"""The optimizer: groups of parameters, and a chain of transforms that updates them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.dtype import float64, int64
from chainrule.core.graph import Variable
from chainrule.errors import NoGradientError, OptionError, StateDictError, closest
from chainrule.optim.schedules import Schedule
from chainrule.optim.transforms import Transform, cast
from chainrule.tensor.state import current
from chainrule.tensor.tensor import Tensor, wrap
from chainrule.tensor.variable import VariableTensor, variable

Parameters = Iterable[Any]


class Group(MutableMapping[str, Any]):
    """Parameters that share hyper-parameters; reads and writes like PyTorch's param_groups.

    Each hyper-parameter is a float64 variable, so changing one never compiles anything anew.
    """

    def __init__(self, parameters: Sequence[VariableTensor], options: Mapping[str, Any]) -> None:
        self.parameters = list(parameters)
        self.step = variable(0, int64, "step")
        self._schedule: Schedule | None = None
        self._hyper: dict[str, VariableTensor] = {}
        for name, value in options.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self.parameters
        if name == "betas":
            return (self["beta1"], self["beta2"])
        return self._rate().item() if name == "lr" else self._hyper[name].item()

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            self.parameters = list(value)
        elif name == "betas":
            self["beta1"], self["beta2"] = value
        elif name == "lr" and callable(value) and not isinstance(value, Tensor):
            self._schedule = value
        else:
            if name == "lr":
                self._schedule = None
            if name in self._hyper:
                self._hyper[name].copy_(value)
            else:
                self._hyper[name] = variable(float(value), float64, name)

    def __delitem__(self, name: str) -> None:
        del self._hyper[name]

    def __iter__(self) -> Iterator[str]:
        scheduled = ["lr"] if self._schedule and "lr" not in self._hyper else []
        return iter([*scheduled, *self._hyper])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _rate(self) -> Tensor:
        if self._schedule:
            return self._schedule(self.step.to(float64))
        return self._hyper["lr"]

    def hyper(self) -> dict[str, Tensor]:
        """All hyper-parameters at the coming step, and the step's number from 1."""
        return {**self._hyper, "lr": self._rate(), "step": self.step + 1}


class Optimizer:
    """Updates parameters from their gradients: p <- p - lr u, u from a chain of transforms.

    ``loss.backward(); optimizer.step()`` consumes the gradients; ``optimizer.step(loss)`` does both.
    """

    def __init__(
        self, parameters: Parameters, chain: Sequence[Transform], options: Mapping[str, Any]
    ) -> None:
        self._chain = tuple(chain)
        self._defaults = dict(options)
        self._state: dict[Variable, dict[str, VariableTensor]] = {}
        self.param_groups: list[Group] = []
        given = list(parameters)
        if not given:
            raise OptionError(
                name="parameters", expected="at least one parameter", got="none",
                mend="model.parameters() of a model with layers; a generator can be read only once",
            )  # fmt: skip
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """More parameters, with hyper-parameters of their own where given."""
        own = {name: value for name, value in group.items() if name != "params"}
        for name in own:
            if name not in self._defaults:
                near = closest(name, self._defaults)
                raise OptionError(
                    name="hyper-parameter",
                    expected=", ".join(self._defaults),
                    got=name,
                    mend=f"did you mean {near}?" if near else "",
                )
        parameters = group["params"]
        chosen = [parameters] if isinstance(parameters, VariableTensor) else list(parameters)
        for index, p in enumerate(chosen):
            if not isinstance(p, VariableTensor):
                raise OptionError(
                    name=f"parameter {index}",
                    expected="an nn.Parameter, or a tensor made with requires_grad=True",
                    got=type(p).__name__,
                    mend="give model.parameters()",
                )
        self.param_groups.append(Group(chosen, {**self._defaults, **own}))

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float | Schedule) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; harmless, since :meth:`step` does it too."""
        for group in self.param_groups:
            for p in group.parameters:
                p.grad = None

    def step(self, loss: Tensor | None = None) -> None:
        """Update every parameter that has a gradient, and consume the gradients.

        Args:
            loss: back-propagate this first.

        Raises:
            NoGradientError: no parameter has a gradient.
        """
        if loss is not None:
            loss.backward()
        grads = current().grads
        if not any(p.variable in grads for group in self.param_groups for p in group.parameters):
            raise NoGradientError(
                op="optimizer.step()",
                reason="no parameter has a gradient",
                reason_zh="没有任何参数带有梯度",
                mend="call loss.backward() before it, on a loss computed with this model's "
                "parameters; each step consumes the gradients",
                mend_zh="先对用该模型参数算出的损失调用 loss.backward();每一步都会用掉梯度",
            )
        for group in self.param_groups:
            h = group.hyper()
            for p in group.parameters:
                gradient = grads.pop(p.variable, None)
                if gradient is not None:
                    self._update(p, wrap(gradient), h)
            group.step.copy_(h["step"])

    def _update(self, p: VariableTensor, u: Tensor, h: Mapping[str, Tensor]) -> None:
        state = self._states(p)
        for transform in self._chain:
            u, fresh = transform.update(u, p, state, h)
            for name, value in fresh.items():
                state[name].copy_(value)
        p.copy_(p - cast(h["lr"], p) * u)

    def _states(self, p: VariableTensor) -> dict[str, VariableTensor]:
        if p.variable not in self._state:
            made = {}
            for transform in self._chain:
                for name in transform.init(p):
                    zeros = np.zeros(p.shape, p.dtype)
                    made[name] = variable(zeros, name=f"{p.variable.name}.{name}")
            self._state[p.variable] = made
        return self._state[p.variable]

    # ------------------------------------------------------------------ saving

    def variables(self) -> dict[str, VariableTensor]:
        """Every cell of the optimizer by name: step counts, hyper-parameters, moments."""
        found: dict[str, VariableTensor] = {}
        index = 0
        for number, group in enumerate(self.param_groups):
            found[f"group.{number}.step"] = group.step
            for name, cell in group._hyper.items():
                found[f"group.{number}.{name}"] = cell
            for p in group.parameters:
                for name, cell in self._states(p).items():
                    found[f"state.{index}.{name}"] = cell
                index += 1
        return found

    def state_dict(self) -> dict[str, Any]:
        """Moments, step counts and hyper-parameters, in PyTorch's shape."""
        state: dict[int, dict[str, Any]] = {}
        groups = []
        index = 0
        for group in self.param_groups:
            numbers = []
            for p in group.parameters:
                cells = {name: cell.numpy() for name, cell in self._states(p).items()}
                state[index] = {"step": group.step.item(), **cells}
                numbers.append(index)
                index += 1
            groups.append({**dict(group), "params": numbers})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        groups = state["param_groups"]
        sizes = [len(group.parameters) for group in self.param_groups]
        if sizes != [len(group["params"]) for group in groups]:
            raise StateDictError(
                module=type(self).__name__,
                lines=f"    groups of {[len(g['params']) for g in groups]} parameters, not {sizes}",
                mend="build the optimizer over the same parameters",
            )
        for group, saved in zip(self.param_groups, groups, strict=True):
            for name, value in saved.items():
                if name in group._hyper:
                    group[name] = value
            for p, number in zip(group.parameters, saved["params"], strict=True):
                cells = state["state"].get(number, {})
                for name, cell in self._states(p).items():
                    if name in cells:
                        cell.copy_(np.asarray(cells[name]))
                if "step" in cells:
                    group.step.copy_(int(cells["step"]))
        current().flush()
