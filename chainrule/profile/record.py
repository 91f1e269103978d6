"""A profile as data: a row per kernel, and sums of rows by layer, phase, kernel or line."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chainrule.errors import OptionError, Source, closest

PHASES = ("forward", "backward", "update")


@dataclass(frozen=True)
class Row:
    """What one kernel did in one call of the step; on the interpreter, one node.

    Attributes:
        phase: forward, backward or update: that of the node with the most operations.
        layer: path of the layer that the node belongs to.
        kernel: name of the kernel; on the interpreter, of the op.
        ops: the ops that it computes at once, in order.
        source: the line of the user's program.
        calls: how many times it ran: more than once in a loop.
        seconds: of all calls together, the median of the rounds.
        flops: floating-point operations; see :mod:`chainrule.profile.work`.
        nbytes: size of the tensors that it reads and writes.
    """

    phase: str
    layer: tuple[str, ...]
    kernel: str
    ops: tuple[str, ...]
    source: Source | None
    calls: int
    seconds: float
    flops: float
    nbytes: float


@dataclass(frozen=True)
class Total:
    """Rows that belong together.

    Attributes:
        name: what they have in common.
        rows: them, in the order of the run.
    """

    name: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    @property
    def flops(self) -> float:
        return sum(row.flops for row in self.rows)

    @property
    def nbytes(self) -> float:
        return sum(row.nbytes for row in self.rows)

    @property
    def source(self) -> Source | None:
        """The line on which most of the time is spent."""
        longest = max(self.rows, key=lambda row: row.seconds)
        return longest.source


_KEYS: dict[str, Callable[[Row], tuple[str, ...]]] = {
    "layer": lambda row: (row.phase, ".".join(row.layer)),
    "phase": lambda row: (row.phase,),
    "kernel": lambda row: (row.kernel,),
    "line": lambda row: (str(row.source or ""),),
}


@dataclass(frozen=True)
class Profile:
    """Where the time of one call goes.

    Attributes:
        name: of the step.
        executor: native or interpreter.
        processor: what it ran on.
        rounds: how many calls were measured.
        seconds: of a whole call, the median; what is in no row is Python and the memory of results.
        peak: operations per second of one core that does nothing else; 0 where it is not known.
        memory: bytes per second that one core moves beyond its own caches; 0 where it is not known.
        rows: in the order of the run.
    """

    name: str
    executor: str
    processor: str
    rounds: int
    seconds: float
    peak: float
    memory: float
    rows: tuple[Row, ...]

    def by(self, what: str) -> list[Total]:
        """Sums of rows.

        Args:
            what: "layer" (and phase), "phase", "kernel", or "line" of the program.

        Raises:
            OptionError: it is none of them.
        """
        if what not in _KEYS:
            near = closest(what, _KEYS)
            raise OptionError(
                name="by", expected=" or ".join(map(repr, _KEYS)), got=repr(what),
                mend=f"did you mean {near!r}?" if near else "",
            )  # fmt: skip
        groups: dict[Hashable, list[Row]] = {}
        for row in sorted(self.rows, key=_place_of_phase):
            groups.setdefault(_KEYS[what](row), []).append(row)
        return [Total(_KEYS[what](rows[0]), tuple(rows)) for rows in groups.values()]

    @property
    def total(self) -> Total:
        """All rows."""
        return Total(("total",), self.rows)

    def share_of_peak(self, part: Row | Total) -> float | None:
        """Operations per second over the most that one core can do; None where it is not known."""
        if not self.peak:
            return None
        return part.flops / part.seconds / self.peak if part.seconds else 0.0

    def share_of_roof(self, part: Row | Total) -> float | None:
        """How near its kernels are to the most that one core can do, by the roofline model.

        The least time of a kernel is that of its operations at the peak, or of its bytes at the
        pace of memory, whichever is longer. Where caches had the data, it may take less: then it
        counts as at its roof. None where peak and pace are not known.

        Reference: S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual
        performance model for multicore architectures", CACM 52(4), 2009.
        """
        if not (self.peak and self.memory):
            return None
        rows = part.rows if isinstance(part, Total) else (part,)
        return sum(min(row.seconds, self._least(row)) for row in rows) / (part.seconds or 1.0)

    def _least(self, row: Row) -> float:
        return max(row.flops / self.peak, row.nbytes / self.memory)

    def __str__(self) -> str:
        from chainrule.profile.as_text import render

        return render(self)

    def text(self, by: Sequence[str] = ("layer",), width: int | None = None) -> str:
        """Tables: one for each of ``by``, then the longest kernels.

        Args:
            by: see :meth:`by`.
            width: of the console, in characters.
        """
        from chainrule.profile.as_text import render

        return render(self, by, width)

    def json(self) -> str:
        """Every row as JSON; times in seconds."""
        from chainrule.profile.as_json import render

        return render(self)

    def html(self, path: str | Path) -> Path:
        """Write a page with a flame view, which needs nothing but a browser; its path.

        Raises:
            OSError: the file can't be written.
        """
        from chainrule.profile.as_html import render

        path = Path(path)
        path.write_text(render(self), "utf-8")
        return path


def _place_of_phase(row: Row) -> int:
    return PHASES.index(row.phase) if row.phase in PHASES else len(PHASES)
