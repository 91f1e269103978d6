"""What changes while a program runs: variables, gradients, random draws (decisions 1, 3, 7, 12).

Outside ``compile`` the program is lazy: a tensor is a node, and asking for a number evaluates it
together with every pending write of a variable. Inside, a :class:`Trace` collects the same reads,
writes and draws, and becomes one graph.

Threads: each has its own trace; the state outside traces is one for all of them, and a lock keeps
its evaluations, writes and draws whole; these come in the order in which the threads happen to run.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from operator import attrgetter

import numpy as np

from chainrule.core.arrays import owned
from chainrule.core.dtype import DType, int64
from chainrule.core.graph import Array, Node, Shape, TensorType, Variable, place, unknown
from chainrule.core.op import Op, input, written
from chainrule.errors import ChainruleError, LeakedTensorError
from chainrule.run.shared import Update, Work, run

# After so many new tensors those still held are evaluated, if half as many nodes wait for it, so
# that a long loop which never looks at a number keeps neither its graph nor its data. An evaluation
# that comes by before then is a better moment than the middle of a step.
_WAITING = 4096
# So many writes may replace pending ones, as in ``average.mul_(0.9).add_(0.1 * w)``.
_REWRITES = 64
# Ops that give a part of a value, or the same numbers under another shape.
_PARTS = frozenset(("pick", "reshape", "permute", "slice", "concatenate"))


_trace = attrgetter("trace")


class State:
    """Reads and writes of variables in program order, outside traces."""

    def __init__(self) -> None:
        self.pending: dict[Variable, Node] = {}
        self.updates: list[Update] = []
        self.updated: set[Variable] = set()  # by one of them
        self.grads: MutableMapping[Variable, Node] = weakref.WeakKeyDictionary()
        self.checks: list[Node] = []
        self.rewrites = 0  # writes to variables that have a pending one
        self.draws = 0
        self.live: dict[Node, None] = {}  # in the order in which they were made
        self.waiting = 0
        self.evaluating = False  # bodies opened meanwhile make tensors: not the time to evaluate
        self.lock = threading.RLock()

    # ------------------------------------------------------------------ tensors

    def hold(self, node: Node) -> None:
        """A tensor stands for the node from now on."""
        node.holders += 1
        if node.value is None and not node.trace:
            self.live[node] = None
            self.waiting += 1
            if self.waiting > _WAITING and not place.trace and not self.evaluating:
                self._look_what_waits()

    def release(self, node: Node) -> None:
        """A tensor no longer stands for the node."""
        node.holders -= 1
        if not node.holders:
            self.live.pop(node, None)

    # ------------------------------------------------------------------ variables

    def read(self, variable: Variable) -> Node:
        """The node for the variable's present value."""
        if variable in self.updated:
            self.flush()
        return self.pending.get(variable) or self.fetch(variable)

    def fetch(self, variable: Variable) -> Node:
        """The node for the value committed last."""
        return variable.read()

    def write(self, variable: Variable, node: Node) -> None:
        """From here on the variable has the value of ``node``.

        When variables are written again and again, or after a backward, what is pending is
        evaluated first, so that a loop which never looks at a number does not grow its graph
        without end.
        """
        with self.lock:
            if variable in self.pending:
                self.rewrites += 1
            if variable in self.updated or self.rewrites > _REWRITES:
                self.settle()
            self.pending[variable] = written(node, variable)

    def put(self, variable: Variable, array: Array) -> None:
        """From here on the variable has this value."""
        if self.pending or self.updates:
            self.write(variable, data(array))
        else:
            variable.commit(array)

    def update(self, update: Update) -> None:
        """From here on the variables of the update have its values."""
        with self.lock:
            if self.pending or self.updated:
                changed = self.pending.keys() | self.updated
                if not changed.isdisjoint(update.reads + update.variables):
                    self.settle()
            self.updates.append(update)
            self.updated.update(update.variables)

    def check(self, loss: Node) -> None:
        """Writes made from here on depend on the loss: a bad label must not update anything."""
        if not self.grads and not self.pending and not self.updates:
            self.checks.clear()  # their gradients were dropped
        if self.pending:
            self.rewrites = _REWRITES
        self.checks.append(loss)

    def settle(self) -> None:
        """Evaluate what is pending, and every tensor that the program still holds.

        A held tensor that can't be evaluated raises when it is asked for.
        """
        self.waiting = 0
        self._commit([*self.live, *self.grads.values()])

    def _look_what_waits(self) -> None:
        """Most of the tensors that were made may be gone: only what is left counts."""
        left = unknown([*self.live, *self.grads.values()])
        self.waiting = sum(node.value is None for node in left)
        if self.waiting > _WAITING // 2:
            self.settle()

    def random(self, op: Op, shape: Shape, **attrs: object) -> Node:
        """A node of random numbers that no other node draws."""
        seed, base, ordinal = self.reserve(1)
        return op(seed, base, ordinal=ordinal, shape=tuple(shape), **attrs)

    def reserve(self, count: int) -> tuple[Node, Node, int]:
        """The seed, the counter, and the number of the first of ``count`` draws from there."""
        with self.lock:
            ordinal = self.draws
            self.draws += count
            return self.fetch(generator.seed), self.fetch(generator.counter), ordinal

    def forget(self) -> None:
        """Nothing is pending any more."""
        self.pending.clear()
        self.updates = []
        self.updated.clear()
        self.rewrites = 0
        self.draws = 0

    def writes(self) -> dict[Variable, Node]:
        """The last write of every variable, the random counter's among them."""
        writes = dict(self.pending)
        if self.draws:
            writes[generator.counter] = self.fetch(generator.counter) + self.draws
        return writes

    # ------------------------------------------------------------------ evaluation

    def evaluate(self, wanted: Sequence[Node]) -> None:
        """Give every wanted node its value, and commit every pending write, or neither.

        Values on the way that the program still holds as tensors are kept too, so that asking for
        them later costs nothing; and so are all gradients when one of them is asked for.
        """
        if self.grads:
            gradients = list(self.grads.values())
            if not set(gradients).isdisjoint(wanted):
                wanted = [*wanted, *gradients]
        error = self._commit(wanted)
        if error is not None:
            raise error
        if self.waiting > _WAITING // 2:
            self._look_what_waits()

    def _commit(self, wanted: Sequence[Node]) -> ChainruleError | None:
        """Evaluate and write; what can't be had does not take down the writes made before it.

        Returns:
            The error of what is wanted. An error of the writes themselves is raised.
        """
        with self.lock:
            targets = [node for node in dict.fromkeys(wanted) if node.value is None]
            writes, updates = self.writes(), self.updates
            pending = bool(writes or updates)
            checks = [node for node in self.checks if node.value is None] if pending else []
            failure = None
            self.evaluating = True
            try:
                if targets:
                    try:
                        self._evaluate(list(dict.fromkeys([*targets, *checks])), writes, updates)
                    except ChainruleError as error:
                        failure = error
                if pending and (failure or not targets):
                    self._evaluate(checks, writes, updates)
            finally:
                self.evaluating = False
                self.forget()
                if pending:
                    self.checks.clear()
            return failure

    def _evaluate(
        self, targets: Sequence[Node], writes: Mapping[Variable, Node], updates: Sequence[Update]
    ) -> None:
        values = [node for update in updates for node in update.values]
        wanted = (*targets, *writes.values(), *values)
        nodes = unknown(wanted)
        if beside := self._beside(nodes):
            nodes = unknown((*wanted, *beside))
        if any(map(_trace, nodes)):
            refuse_traced(nodes, mine=0)
        chosen = set(targets)
        held = [n for n in nodes if n.holders and n.value is None and n not in chosen]
        outputs = [*targets, *held]
        for node, array in zip(outputs, run(Work(nodes, outputs, writes, updates)), strict=True):
            if node.op.name != "read":
                node.value = owned(array)
                self.live.pop(node, None)
                if not node.needs_grad:
                    node.inputs = ()  # nothing asks for its history: let it go
        for variable, node in writes.items():
            node.value, node.inputs = variable.value, ()

    def _beside(self, nodes: Sequence[Node]) -> list[Node]:
        """Tensors that are parts of what is computed now, such as the last state of a loop.

        Later they would cost computing all of it again.
        """
        live = list(self.live)  # tensors may go at any moment, and take themselves out
        if _PARTS.isdisjoint([node.op.name for node in live]):
            return []
        now = {node for node in nodes if node.value is None}

        def is_part(node: Node) -> bool:
            if node in now:
                return True
            return node.op.name in _PARTS and node.value is None and all(map(is_part, node.inputs))

        return [node for node in live if node not in now and is_part(node)]

    def flush(self) -> None:
        """Evaluate what is pending."""
        self.evaluate(())


def data(array: Array) -> Node:
    """A leaf that holds the array, or a copy if it is a part of a larger one."""
    return input(TensorType(array.shape, array.dtype), "", owned(array))


def known_data(node: Node) -> Array | None:
    """Its array, if it is data and not part of a trace."""
    return None if place.trace or node.needs_grad else node.value


class Gradients(MutableMapping[Variable, Node]):
    """Gradients inside a trace; one that waits outside comes in once it is looked at.

    Attributes:
        incoming: for each variable whose gradient was looked at or set, the input that stands for
            the gradient it had outside, or None.
    """

    def __init__(self, outside: Mapping[Variable, Node]) -> None:
        self._outside = outside
        self._now: dict[Variable, Node] = {}
        self.incoming: dict[Variable, Node | None] = {}

    def _look(self, variable: Variable) -> None:
        if variable not in self.incoming:
            node = self._outside.get(variable)
            hole = None if node is None else input(node.tensor_type, "grad")
            self.incoming[variable] = hole
            if hole is not None:
                self._now[variable] = hole

    def __getitem__(self, variable: Variable) -> Node:
        self._look(variable)
        return self._now[variable]

    def __setitem__(self, variable: Variable, node: Node) -> None:
        self._look(variable)
        self._now[variable] = node

    def __delitem__(self, variable: Variable) -> None:
        self._look(variable)
        del self._now[variable]

    def __iter__(self) -> Iterator[Variable]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)


class Trace(State):
    """Reads and writes of variables while a function is compiled."""

    grads: Gradients

    def __init__(self) -> None:
        super().__init__()
        self.id = next(_trace_ids)
        self.reads: dict[Variable, Node] = {}
        self.grads = Gradients(eager.grads)

    def fetch(self, variable: Variable) -> Node:
        if variable not in self.reads:
            self.reads[variable] = variable.fresh_read()
        return self.reads[variable]

    def settle(self) -> None:
        """A trace keeps its writes until its end."""

    def evaluate(self, wanted: Sequence[Node]) -> None:
        """Tensors from outside the trace have values; those of the trace do not."""
        refuse_traced(wanted, mine=-1)
        eager.evaluate(wanted)


def refuse_traced(nodes: Iterable[Node], mine: int) -> None:
    """Raise when a node belongs to another trace than ``mine``; names the last of them."""
    for node in reversed(list(nodes)):
        if node.trace not in (0, mine) and node.value is None:
            error = LeakedTensorError(
                op=node.op.name, where=f" at {node.source}" * bool(node.source)
            )
            raise error.at(".".join(node.scope), None)


class Generator:
    """The two cells that random numbers come from."""

    def __init__(self) -> None:
        self.seed = Variable(np.array(0, int64), "random.seed")
        self.counter = Variable(np.array(0, int64), "random.counter")

    def manual_seed(self, seed: int) -> None:
        """Start the sequence of draws of ``seed`` from its beginning."""
        current().flush()
        self.seed.commit(np.array(np.uint64(seed % 2**64)).astype(int64))
        self.counter.commit(np.array(0, int64))


_trace_ids = itertools.count(1)
generator = Generator()
eager = State()


class _Current(threading.local):
    def __init__(self) -> None:
        self.state: State = eager


_current = _Current()


def current() -> State:
    """The trace being made, or the state outside traces."""
    return _current.state


class tracing:
    """Everything inside belongs to one trace: a new one, or the one that is given."""

    def __init__(self, trace: Trace | None = None) -> None:
        self._trace = trace or Trace()

    def __enter__(self) -> Trace:
        self._before = (_current.state, place.trace)
        _current.state, place.trace = self._trace, self._trace.id
        return self._trace

    def __exit__(self, *_: object) -> None:
        _current.state, place.trace = self._before


class Epoch:
    """What compiled steps look at: it changes when modules change in structure or mode.

    A mode that is put back, ``eval()`` and then ``train()``, puts the old value back, and traces
    made under it serve again.
    """

    value: tuple[int, frozenset[Hashable]] = (0, frozenset())

    @classmethod
    def bump(cls) -> None:
        """Compiled steps look at their modules again."""
        cls.value = (cls.value[0] + 1, cls.value[1])

    @classmethod
    def flip(cls, mode: Hashable) -> None:
        """A mode that has two values has the other one now."""
        cls.value = (cls.value[0], cls.value[1] ^ {mode})


def manual_seed(seed: int) -> None:
    """Make everything random from here on a function of ``seed``.

    Example:
        >>> import chainrule as cr
        >>> cr.manual_seed(0); a = cr.rand(2).tolist()
        >>> cr.manual_seed(0); a == cr.rand(2).tolist()
        True
    """
    generator.manual_seed(int(seed))


def random_node(op: Op, shape: Shape, **attrs: DType) -> Node:
    """A node of fresh random numbers."""
    return current().random(op, shape, **attrs)
