"""Executors. Each has ``prepare(graph) -> plan`` and ``plan(inputs, variables) -> results``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from chainrule.core.graph import Array, Graph
from chainrule.errors import OptionError, closest
from chainrule.run import interpreter

Update = Callable[[Sequence[Array]], list[Array]]


class Plan(Protocol):
    """A graph made ready to run.

    A plan may also have ``update(inputs) -> outputs``, which reads and writes the variables where
    they stand: it commits every write or, after an error, none.
    """

    def __call__(self, inputs: Sequence[Array], variables: Sequence[Array]) -> list[Array]: ...


def updater(plan: Plan, graph: Graph) -> Update:
    """Run a graph's plan on the variables' present values and commit its writes.

    Returns:
        ``(inputs) -> outputs``: the plan's own ``update``, or one that hands variables in and out.
    """
    in_place: Update | None = getattr(plan, "update", None)
    if in_place is not None:
        return in_place

    def update(inputs: Sequence[Array]) -> list[Array]:
        results = plan(inputs, [variable.value for variable in graph.reads])
        for variable, array in zip(graph.writes, results[len(graph.outputs) :], strict=True):
            variable.commit(array)
        return results[: len(graph.outputs)]

    return update


def _native(graph: Graph) -> Plan:
    from chainrule.run.native import prepare

    return prepare(graph)


def _torch(graph: Graph) -> Plan:
    from chainrule.run.torch import prepare

    return prepare(graph)


_EXECUTORS: dict[str, Callable[[Graph], Plan]] = {
    "interpreter": interpreter.prepare,
    "native": _native,
    "torch": _torch,
}
_chosen = ""  # until it is asked for


def executor() -> str:
    """The name of the executor that runs graphs now.

    It is ``"native"``, or what the environment variable ``CHAINRULE_EXECUTOR`` says, until
    :func:`set_executor` chooses another.
    """
    if not _chosen:
        set_executor(os.environ.get("CHAINRULE_EXECUTOR") or "native")
    return _chosen


def set_executor(name: str) -> None:
    """Run graphs with ``"interpreter"``, ``"native"`` or ``"torch"`` from now on.

    Where native code can't be made for the processor, ``"native"`` means the interpreter, with one
    notice.

    Raises:
        OptionError: there is no executor of this name.
    """
    global _chosen
    if name not in _EXECUTORS:
        near = closest(name, _EXECUTORS)
        raise OptionError(
            name="executor",
            expected=" or ".join(map(repr, _EXECUTORS)),
            got=repr(name),
            mend=f"did you mean {near!r}?" if near else "",
        )
    _chosen = name


def prepare(graph: Graph) -> Plan:
    """The graph's plan on the chosen executor."""
    return _EXECUTORS[executor()](graph)


def prepare_once(graph: Graph) -> Plan:
    """The plan of a graph that was not compiled; it may serve once, or for all of its structure."""
    if executor() == "native":
        from chainrule.run.native import prepare_once

        return prepare_once(graph)
    return prepare(graph)
