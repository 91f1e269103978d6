"""The optimizer: groups of parameters, and a chain of transforms that updates them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from functools import partial
from typing import Any

import numpy as np

from chainrule.core.call import closed
from chainrule.core.dtype import default_dtype, float64, int64
from chainrule.core.graph import Node, Variable, phase, place
from chainrule.core.op import input
from chainrule.core.simplify import simplify
from chainrule.core.subgraph import Subgraph
from chainrule.errors import NoGradientError, OptionError, StateDictError, closest
from chainrule.optim.schedules import Schedule
from chainrule.optim.transforms import Transform, cast
from chainrule.run.shared import Update
from chainrule.tensor.state import current, tracing
from chainrule.tensor.tensor import Tensor, wrap
from chainrule.tensor.variable import VariableTensor, drop_gradients, variable

Parameters = Iterable[Any]
Options = Mapping[str, Any]  # hyper-parameters by name
# How a step computes, the variables it reads, and those it writes.
_Record = tuple[Subgraph, tuple[Variable, ...], tuple[Variable, ...]]
# The same for steps of groups that are alike: variables by their places among the group's.
_bodies: OrderedDict[Hashable, tuple[Subgraph, list[int], list[int]]] = OrderedDict()
_BODIES_KEPT = 64


class Group(MutableMapping[str, Any]):
    """Parameters that share hyper-parameters; reads and writes like PyTorch's param_groups.

    Each hyper-parameter is a float64 variable, so changing one never compiles anything anew.
    """

    def __init__(
        self, parameters: Sequence[VariableTensor], chain: Sequence[Transform], options: Options
    ) -> None:
        self.parameters = list(parameters)
        self.chain = tuple(chain)
        self.step = variable(0, int64, "step")
        self._schedule: Schedule | None = None
        self._hyper: dict[str, VariableTensor] = {}
        for name, value in options.items():
            self[name] = value

    @property
    def counts(self) -> bool:
        """Whether a transform asks how many updates a parameter had."""
        return any("step" in link.reads for link in self.chain)

    @property
    def is_recordable(self) -> bool:
        """Whether its transforms are the library's: they compute the same at every step."""
        return all(type(link).__module__.startswith("chainrule.") for link in self.chain)

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
            if name not in self._hyper:
                self._hyper[name] = variable(float(value), float64, name)
                return
            if name != "lr" and not any(name in link.reads for link in self.chain) and value != 0:
                raise OptionError(
                    name=name, expected="0, as when the optimizer was made", got=value,
                    mend=f"give {name} when the optimizer is made; it needs state of its own",
                )  # fmt: skip
            self._hyper[name].copy_(value)

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
        """All hyper-parameters at the coming step."""
        return {**self._hyper, "lr": self._rate()}


class Optimizer:
    """Updates parameters from their gradients: p <- p - lr u, u from a chain of transforms.

    ``loss.backward(); optimizer.step()`` consumes the gradients; ``optimizer.step(loss)`` is both.
    """

    def __init__(
        self,
        parameters: Parameters,
        chain: Callable[[Options], Sequence[Transform]],
        options: Options,
    ) -> None:
        """``chain`` gives the transforms of a group from its hyper-parameters."""
        self._chain = chain
        self._defaults = dict(options)
        self._state: dict[Variable, dict[str, VariableTensor]] = {}
        self.param_groups: list[Group] = []
        self._records: dict[Hashable, _Record] = {}
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
        if taken := {id(p) for g in self.param_groups for p in g.parameters} & set(map(id, chosen)):
            raise OptionError(
                name="parameters", expected="each in one group only",
                got=f"{len(taken)} that are in another group already", mend="",
            )  # fmt: skip
        options = {**self._defaults, **own}
        unique = list({id(p): p for p in chosen}.values())  # a shared weight is updated once
        self.param_groups.append(Group(unique, self._chain(options), options))

    def wrap_chains(self, wrap: Callable[[Sequence[Transform]], Sequence[Transform]]) -> None:
        """Put another chain in the place of every group's, before the first step."""
        self._chain = partial(_wrapped, self._chain, wrap)
        for group in self.param_groups:
            group.chain = tuple(wrap(group.chain))

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
            drop_gradients(group.parameters)

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
        graded: list[list[tuple[VariableTensor, Node]]] = []
        for group in self.param_groups:
            popped = [(p, grads.pop(p.variable, None)) for p in group.parameters]
            graded.append([(p, gradient) for p, gradient in popped if gradient is not None])
        if not any(graded):
            raise NoGradientError(
                op="optimizer.step()",
                reason="no parameter has a gradient",
                reason_zh="没有任何参数带有梯度",
                mend="call loss.backward() before it, on a loss computed with this model's "
                "parameters; each step consumes the gradients",
                mend_zh="先对用该模型参数算出的损失调用 loss.backward();每一步都会用掉梯度",
            )
        with phase("update"):
            for group, pairs in zip(self.param_groups, graded, strict=True):
                if place.trace or not group.is_recordable:
                    self._advance(group, pairs, group.hyper())
                else:
                    current().update(self._recorded(group, pairs))

    def _advance(
        self, group: Group, graded: Sequence[tuple[VariableTensor, Node]], h: dict[str, Tensor]
    ) -> None:
        for p, gradient in graded:
            self._update(p, wrap(gradient), group, h)
        group.step.copy_(group.step + 1)

    def _recorded(self, group: Group, graded: Sequence[tuple[VariableTensor, Node]]) -> Update:
        """The step of a group as one update; how it computes is found out once."""
        values = [gradient for _, gradient in graded]
        hyper = {"lr": group._rate()} if group._schedule else {}  # made anew for every step
        values += [x.node for x in hyper.values()]
        key = (
            group.chain, *hyper, default_dtype(),
            tuple([p.variable for p, _ in graded]), tuple([node.type for node in values]),
        )  # fmt: skip
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = self._record(group, graded, values, hyper)
        body, reads, variables = record
        return Update(body, tuple(values), reads, variables)

    def _record(
        self,
        group: Group,
        graded: Sequence[tuple[VariableTensor, Node]],
        values: Sequence[Node],
        hyper: dict[str, Tensor],
    ) -> _Record:
        """How such a step computes; groups that differ in their variables alone compute alike."""
        cells = [x.variable for x in (group.step, *group._hyper.values())]
        for p, _ in graded:
            cells += [x.variable for x in (p, *self._states(p, group).values())]
        key = (
            group.chain, *group._hyper, len(hyper), default_dtype(), len(graded),
            tuple([node.type for node in values]), tuple([cell.type for cell in cells]),
        )  # fmt: skip
        found = _bodies.get(key)
        if found is None:
            with tracing() as trace:
                holes = [input(node.tensor_type, "value") for node in values]
                given = [(p, hole) for (p, _), hole in zip(graded, holes, strict=False)]
                rates = dict(zip(hyper, map(wrap, holes[len(graded) :]), strict=True))
                self._advance(group, given, {**group.hyper(), **rates})
                writes = trace.writes()
            fixed = [variable for variable in trace.reads if variable not in writes]
            nodes = [*holes, *map(trace.fetch, fixed), *map(trace.fetch, writes)]
            inputs = {node: input(node.tensor_type, "value") for node in nodes}
            body = closed(list(writes.values()), inputs).changed(simplify)
            number = {variable: index for index, variable in enumerate(cells)}
            if not number.keys() >= {*fixed, *writes}:
                return body, tuple(fixed), tuple(writes)
            found = body, [number[v] for v in fixed], [number[v] for v in writes]
            _bodies[key] = found
            if len(_bodies) > _BODIES_KEPT:
                _bodies.popitem(last=False)
        body, reads, written = found
        return body, tuple([cells[i] for i in reads]), tuple([cells[i] for i in written])

    def _update(self, p: VariableTensor, u: Tensor, group: Group, h: dict[str, Tensor]) -> None:
        state = self._states(p, group)
        if group.counts:  # the parameter's own updates: it may have been frozen for a while
            state["step"].copy_(state["step"] + 1)
            h = {**h, "step": state["step"]}
        for transform in group.chain:
            u, fresh = transform.update(u, p, state, h)
            for name, value in fresh.items():
                state[name].copy_(value)
        p.copy_(p - cast(h["lr"], p) * u)

    def _states(self, p: VariableTensor, group: Group) -> dict[str, VariableTensor]:
        if p.variable not in self._state:
            arrays = {"step": np.array(0, int64)} if group.counts else {}
            for transform in group.chain:
                arrays |= transform.init(p)
            self._state[p.variable] = {
                name: variable(array, name=f"{p.variable.name}.{name}")
                for name, array in arrays.items()
            }
        return self._state[p.variable]

    def moments(self) -> dict[Variable, dict[str, VariableTensor]]:
        """The optimizer's own cells for each parameter, by name."""
        return dict(self._state)

    def __getstate__(self) -> dict[str, Any]:
        current().flush()  # copies and pickles hold the values of now
        return {**vars(self), "_records": {}}

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
                for name, cell in self._states(p, group).items():
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
                cells = {name: cell.numpy() for name, cell in self._states(p, group).items()}
                state[index] = cells
                numbers.append(index)
                index += 1
            groups.append({**group, "step": group.step.item(), "params": numbers})
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
                if name == "lr" and group._schedule:
                    continue  # it follows from the step, which comes back below
                if name in group._hyper or name == "betas":
                    group[name] = value
            steps = [0]
            for p, number in zip(group.parameters, saved["params"], strict=True):
                cells = state["state"].get(number, {})
                for name, cell in self._states(p, group).items():
                    if name in cells:
                        cell.copy_(np.asarray(cells[name]))
                steps.append(int(cells.get("step", 0)))
            group.step.copy_(saved.get("step", max(steps)))
        current().flush()


def _wrapped(
    inner: Callable[[Options], Sequence[Transform]],
    wrap: Callable[[Sequence[Transform]], Sequence[Transform]],
    options: Options,
) -> Sequence[Transform]:
    return wrap(inner(options))
