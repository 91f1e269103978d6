"""The explanation: the recorded passes, the names a person gave, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chainrule.core.graph import Array, Node, Shape
from chainrule.errors import OptionError, closest, language
from chainrule.explain.forward_names import ACTIVATIONS, behind, steps_of
from chainrule.explain.naming import Names, name_nodes
from chainrule.explain.notation import number
from chainrule.explain.record import record
from chainrule.explain.steps import Derivation, Step
from chainrule.explain.words import check_language, word

# Parameters up to this number get a column each in the table of updates.
_COLUMNS = 6


@dataclass(frozen=True)
class Settings:
    """How an explanation reads.

    Attributes:
        lang: "en" or "zh".
        full: every line, every term.
        features: names of the input features, in order.
        units: their units, "" for none.
        classes: names of the classes, in order (for one output: of 0 and 1).
    """

    lang: str = "en"
    full: bool = False
    features: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pass:
    """One run of the training step: its steps, and the numbers worth a row of a table."""

    steps: tuple[Step, ...]
    loss: float | None
    prediction: Array
    parameters: tuple[tuple[str, float], ...]


@dataclass
class Explanation:
    """What :func:`chainrule.explain` gives: print it, or take ``markdown()``, ``json()``, steps."""

    names: Names
    passes: list[Pass]
    start: dict[Node, Array]
    settings: Settings = field(default_factory=Settings)

    @property
    def recording(self) -> Any:
        """The recorded run."""
        return self.names.recording

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the first pass."""
        return self.passes[0].steps

    def __str__(self) -> str:
        from chainrule.explain.as_text import render

        return render(self)

    def markdown(self) -> str:
        """Markdown with LaTeX formulas."""
        from chainrule.explain.as_markdown import render

        return render(self)

    def json(self) -> str:
        """Every shown step as JSON."""
        from chainrule.explain.as_json import render

        return render(self)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def full(self) -> Explanation:
        """The same explanation with every line and every term."""
        return replace(self, settings=replace(self.settings, full=True))

    def at(self, place: str) -> str:
        """Everything about one entry, with every term of its sums.

        Args:
            place: a printed name, ``"w[1]_12"`` or ``"z[2]_1"``, or a parameter's path and index
                from 0, ``"fc1.weight[0, 1]"``.

        Raises:
            OptionError: there is no such entry.
        """
        from chainrule.explain.as_text import entry

        wanted = self._entry_name(place)
        found = [entry(self, step, index) for step in self.steps for index in step.find(wanted)]
        if not found:
            known = [step.plain for step in self.steps]
            near = closest(place, known)
            raise OptionError(
                name="at",
                expected="a printed name or a parameter's path with an index",
                got=repr(place),
                mend=f"did you mean an entry of {near}?" if near else "",
            )
        return "\n".join(found) + "\n"

    def _entry_name(self, place: str) -> str:
        """The printed name of an entry given by its parameter's path and index."""
        path, _, index = place.rstrip("]").rpartition("[")
        for variable, node in self.recording.parameters.items():
            if path and path == ".".join((*node.scope, variable.name)):
                places = tuple(int(part) for part in index.split(","))
                fits = len(places) == node.ndim and all(
                    0 <= i < n for i, n in zip(places, node.shape, strict=True)
                )
                if fits:
                    return self.names.forward[node].entry(places, node.shape)
        return place

    def say(self, key: str, **facts: object) -> str:
        """A word in the explanation's language."""
        return word(key, self.settings.lang, **facts)

    # ------------------------------------------------------------------ facts about it

    def summary(self) -> str:
        """The layers in a line: ``2 inputs -> 1 neuron (sigmoid)``."""
        parts: list[str] = []
        nodes = steps_of(self.recording)
        seen = set()
        for position, node in enumerate(nodes):
            if node.op.name != "linear" or behind(node.inputs[1]) in seen:
                continue
            seen.add(behind(node.inputs[1]))
            if not parts:
                parts.append(f"{node.inputs[0].shape[-1]} {self.say('inputs')}")
            count = node.shape[-1]
            after = nodes[position + 1 : position + 2]
            used = after[0].op.name if after and after[0].op.name in ACTIVATIONS else "identity"
            unit = self.say("neuron" if count == 1 else "neurons")
            parts.append(f"{count} {unit} ({self.say(used)})")
        return " -> ".join(parts) or f"{len(nodes)} {self.say('ops')}"

    def given(self) -> list[tuple[str, str]]:
        """Inputs, parameters and target with their starting values, as far as they are few."""
        found = []
        recording = self.recording
        target = [recording.target] if recording.target is not None else []
        for node in (*recording.inputs, *recording.parameters.values(), *target):
            array = self.start[node]
            name = self.names.forward[node]
            if array.size > 8:
                found.append((name.plain, "x".join(map(str, array.shape))))
                continue
            for index in np.ndindex(array.shape):
                shown = number(float(array[index]))
                if node in recording.inputs:
                    shown += self._feature(index)
                elif node is recording.target:
                    shown += self._class_of(float(array[index]))
                found.append((name.entry(index, node.shape), shown))
        return found

    def _feature(self, index: Shape) -> str:
        place = index[-1] if index else 0
        unit = self.settings.units[place] if place < len(self.settings.units) else ""
        name = self.settings.features[place] if place < len(self.settings.features) else ""
        return (f" {unit}" if unit else "") + (f" ({name})" if name else "")

    def _class_of(self, label: float) -> str:
        classes = self.settings.classes
        fits = classes and label == int(label) and 0 <= label < len(classes)
        return f" ({classes[int(label)]})" if fits else ""

    def rates(self) -> dict[str, float]:
        """The learning rate under its symbol, where there is an update."""
        optimizer = self.recording.optimizer
        return {"eta": optimizer.lr} if optimizer is not None else {}

    def is_prediction(self, step: Step) -> bool:
        """Whether the step gives the model's output (for cross-entropy: its probabilities)."""
        return step.phase in ("forward", "loss") and step._node is self.recording.output

    def outcome(self) -> str:
        """What the prediction means: ``pass 62.2%``, ``accept``."""
        classes = self.settings.classes
        last = self.recording.output
        values = np.ravel(self.passes[0].prediction)
        if not classes or (last.ndim > 1 and last.shape[0] > 1):
            return ""
        if last.op.name == "step" and len(classes) == 2 and values.size == 1:
            return classes[int(values[0])]
        if last.op.name == "sigmoid" and len(classes) == 2 and values.size == 1:
            return f"{classes[1]} {100 * values[0]:.1f}%"
        if last.op.name == "softmax" and len(classes) == values.size:
            return ", ".join(f"{c} {100 * v:.1f}%" for c, v in zip(classes, values, strict=True))
        return ""

    def flips(self) -> list[tuple[str, float, float]]:
        """For one neuron that decides: each input's value at which z = 0, the others kept."""
        recording = self.recording
        last = recording.prediction
        if last.op.name != "step" or last.size != 1 or last.inputs[0].op.name != "linear":
            return []
        x, weight, *_ = last.inputs[0].inputs
        if x not in recording.inputs or x.size != weight.size:
            return []
        z = float(np.ravel(recording.value(last.inputs[0]))[0])
        found = []
        for index in np.ndindex(x.shape):
            slope = float(np.ravel(recording.value(weight))[index[-1]])
            if slope:
                now = float(recording.value(x)[index])
                name = self.names.forward[x].entry(index, x.shape)
                found.append((name + self._feature(index), now - z / slope, now))
        return found

    def through_time(self) -> list[tuple[str, float]]:
        """|dL/dh<t>| of a recurrence, from the last step to the first."""
        return [
            (f"|{step.plain}|", float(np.linalg.norm(step.array)))
            for step in self.steps
            if step.phase == "backward" and step.plain.startswith("dL/dh<")
        ]

    # ------------------------------------------------------------------ the table of passes

    def columns(self) -> list[str]:
        """Headings of the table over the updates."""
        names = [name for name, _ in self.passes[0].parameters]
        last = self.recording.output
        shape = last.shape
        heads = [self.names.forward[last].entry(i, shape) for i in np.ndindex(shape)][:4]
        return [self.say("step_number"), "L", *heads, *names]

    def row(self, one: Pass) -> list[str]:
        """One row of it."""
        cells = [str(self.passes.index(one) + 1)]
        cells.append("" if one.loss is None else number(one.loss))
        cells += [number(float(v)) for v in np.ravel(one.prediction)[:4]]
        return cells + [number(v) for _, v in one.parameters]


def explain(
    model: Callable[..., Any],
    x: Any,
    y: Any = None,
    *,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = 0.1,
    steps: int = 1,
    set: Mapping[str, float] | None = None,
    features: Sequence[str] = (),
    units: Sequence[str] = (),
    classes: Sequence[str] = (),
    lang: str | None = None,
    full: bool = False,
) -> Explanation:
    """The derivation of a network's forward pass, loss, gradients and update, for one input.

    The step is recorded from a snapshot of the model, so the model does not change. Every number
    shown is a number of that run; beside every gradient stands its central difference.

    Args:
        model: a module, or any function of tensors.
        x: its input (a tuple for several).
        y: the target; without it, or without a loss, only the forward pass is explained.
        loss: ``loss(prediction, y)``, for example ``nn.CrossEntropyLoss()``.
        optimizer: an optimizer over the model's parameters, or gradient descent's learning rate.
        steps: how many updates to follow.
        set: "what if": entries by their printed names, for example ``{"w1": 0.7, "x2": 0}``.
        features: names of the input features.
        units: units of the input features.
        classes: names of the classes.
        lang: "en" or "zh"; when not given, ``CHAINRULE_LANG`` decides.
        full: every line and every term.

    Raises:
        OptionError: an unknown language or name in ``set``, or fewer than one step.
        NotScalarError: a loss with more than one entry.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> model = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
        >>> report = cr.explain(model, [2.0, 3.0], [1.0], loss=nn.BCELoss())
        >>> [step.plain for step in report.steps][:3]
        ['z', 'a', 'L']
    """
    if steps < 1:
        raise OptionError(name="steps", expected="at least 1", got=steps, mend="")
    settings = Settings(
        check_language(lang or language()), full, tuple(features), tuple(units), tuple(classes)
    )
    recording = record(model, x, y, loss, optimizer)
    names = name_nodes(recording)
    _change(names, set or {})
    start = dict(recording.arrays)
    passes = []
    for position in range(steps):
        if position:
            recording.arrays = dict(recording.arrays)
            recording.advance()
        else:
            recording.run()
        passes.append(_pass(names, start_of=recording.arrays, derive=not position))
        if not position:
            first = replace(recording, arrays=dict(recording.arrays), values=dict(recording.values))
            kept = Names(first, names.forward, names.cotangents, names.local)
            passes[0] = _pass(kept, start_of=first.arrays, derive=True)
            names = Names(recording, names.forward, names.cotangents, names.local)
    return Explanation(kept, passes, start, settings)


def _pass(names: Names, start_of: Mapping[Node, Array], derive: bool) -> Pass:
    recording = names.recording
    steps = Derivation(names).steps if derive else []
    parameters = [
        (name, float(start_of[node][index]))
        for read in recording.parameters.values()
        for name, node, index in names.entries(read)
    ]
    loss = None if recording.loss is None else float(recording.value(recording.loss).item())
    if len(parameters) > _COLUMNS:
        parameters = []
    return Pass(tuple(steps), loss, recording.value(recording.output).copy(), tuple(parameters))


def _change(names: Names, changes: Mapping[str, float]) -> None:
    """Set entries of inputs, target and parameters by their printed names."""
    recording = names.recording
    if not changes:
        return
    places = {name: (node, index) for name, node, index in names.leaves()}
    for name, value in changes.items():
        if name not in places:
            near = closest(name, places)
            raise OptionError(
                name="set",
                expected="one of " + ", ".join([*list(places)[:12], *["..."] * (len(places) > 12)]),
                got=name,
                mend=f"did you mean {near}?" if near else "",
            )
        node, index = places[name]
        array = np.array(recording.arrays[node])
        array[index] = value
        recording.arrays[node] = array
