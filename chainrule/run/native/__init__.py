"""The executor that runs a graph as machine code for this processor, in one call.

A graph is opened into primitives, cut into groups (``fuse``), put in order (``order``), and lowered
to tasks (``lower``), whose kernels LLVM compiles (``kernels``, ``jit``). One native loop runs them
(``runner``), on several threads (``team``). Graphs with tensors of float64 run on the interpreter;
so does what has no kernel, and a notice says so once.
"""

from __future__ import annotations

import warnings

from chainrule.core.graph import Graph, caller
from chainrule.errors import ChainruleWarning, NoKernelWarning, NoNativeWarning
from chainrule.run import interpreter
from chainrule.run.native.eager import is_little
from chainrule.run.native.failures import NoKernelError, WideError
from chainrule.run.native.fuse import VIEWS
from chainrule.run.native.plan import Plan
from chainrule.run.native.target import obstacle

__all__ = ["Plan", "prepare", "prepare_once"]

_said: set[str] = set()


def prepare(graph: Graph) -> Plan | interpreter.Plan:
    """The plan of a graph; on the interpreter, with one notice per op, where a kernel is missing.

    A graph that computes nothing, such as the read of a variable, is the interpreter's too; and so
    is every graph where native code can't be made.
    """
    if all(not node.inputs or node.op.name in VIEWS for node in graph.nodes):
        return interpreter.prepare(graph)
    if reason := obstacle():
        _say("", NoNativeWarning(reason=reason))
        return interpreter.prepare(graph)
    try:
        return Plan(graph)
    except WideError:  # by design
        return interpreter.prepare_opened(graph)
    except NoKernelError as error:
        _say(str(error), NoKernelWarning(op=str(error)))
        return interpreter.prepare(graph)


def prepare_once(graph: Graph) -> Plan | interpreter.Plan:
    """The plan of a graph that was not compiled: on the interpreter if there is little to do."""
    return interpreter.prepare_opened(graph) if is_little(graph) else prepare(graph)


def _say(what: str, warning: ChainruleWarning) -> None:
    """A notice, once."""
    if what not in _said:
        _said.add(what)
        warnings.warn(warning.at("", caller()), stacklevel=3)
