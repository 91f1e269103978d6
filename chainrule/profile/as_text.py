"""A profile as tables for the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from chainrule.profile.record import Profile, Row, Total

_LONGEST = 10
# With more layers than this, those that take less than this share of the time share a line.
_MANY, _LITTLE = 12, 0.01


def render(profile: Profile, by: Sequence[str] = ("layer",), width: int | None = None) -> str:
    """What was measured, a table for each of ``by``, and the longest kernels."""
    columns = width or shutil.get_terminal_size((100, 24)).columns
    parts = [_head(profile), *(_sums(profile, what, columns) for what in by)]
    return "\n\n".join([*parts, "The longest:\n" + _longest(profile, columns)])


def _head(profile: Profile) -> str:
    lines = [
        f"{profile.name}: {_time(profile)} per call (median of {profile.rounds}), "
        f"{profile.executor} executor, 1 thread, {profile.processor}"
    ]
    if profile.peak:
        lines.append(f"{limits(profile)}, measured")
    outside = max(profile.seconds - profile.total.seconds, 0.0)
    lines.append(f"outside of kernels (Python, memory of results): {_time(profile, outside)}")
    return "\n".join(lines)


def limits(profile: Profile) -> str:
    """The most that one core can do, where it is known."""
    return (
        f"one core: FMA peak {profile.peak / 1e9:.0f} GFLOP/s, memory "
        f"{profile.memory / 1e9:.0f} GB/s beyond its own caches"
    )


def _number_names(profile: Profile) -> list[str]:
    names = [_unit(profile)[0], "time", "MFLOP"]
    return [*names, *(["of peak", "MB", "of roof"] if profile.peak else ["GFLOP/s", "MB"])]


def _sums(profile: Profile, what: str, width: int) -> str:
    names = ["phase", "layer"] if what == "layer" else [what]
    rows = [[*names, *_number_names(profile), "" if what == "line" else "line"]]
    before = ""
    totals = profile.by(what)
    for total in _folded(profile, totals) if what == "layer" else totals:
        shown = [name or "-" for name in total.name]
        if what == "layer":
            shown[0], before = ("" if shown[0] == before else shown[0]), shown[0]
        line = "" if what == "line" else str(total.source or "")
        rows.append([*shown, *_numbers(profile, total), line])
    blank = [""] * (len(names) - 1)
    rows.append(["total", *blank, *_numbers(profile, profile.total), ""])
    return _laid_out(rows, len(names), len(_number_names(profile)), width)


def _folded(profile: Profile, layers: Sequence[Total]) -> list[Total]:
    """Layers of little time as one line for each phase, where there are many."""
    if len(layers) <= _MANY:
        return [*layers]
    least = _LITTLE * profile.total.seconds
    shown: list[Total] = []
    for phase in dict.fromkeys(total.name[0] for total in layers):
        here = [total for total in layers if total.name[0] == phase]
        little = [total for total in here if total.seconds < least]
        shown += [total for total in here if total.seconds >= least]
        if little:
            rows = tuple(row for total in little for row in total.rows)
            shown.append(Total((phase, f"({len(little)} more)"), rows))
    return shown


def _longest(profile: Profile, width: int) -> str:
    head = ["kernel", "phase", "layer", *_number_names(profile), "line", "what it computes"]
    rows = [
        [
            row.kernel if row.calls == 1 else f"{row.kernel} x{row.calls}", row.phase,
            ".".join(row.layer) or "-", *_numbers(profile, row), str(row.source or "-"),
            shortened(row.ops),
        ]
        for row in sorted(profile.rows, key=lambda row: -row.seconds)[:_LONGEST]
    ]  # fmt: skip
    return _laid_out([head, *rows], 3, len(_number_names(profile)), width)


def _laid_out(rows: Sequence[Sequence[str]], first: int, numbers: int, width: int) -> str:
    """Columns under each other: those of numbers, to the right, after the first few.

    The last column is cut where the line would be longer than ``width``.
    """
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(length) if first <= number < first + numbers else cell.ljust(length)
            for number, (cell, length) in enumerate(zip(row, wide, strict=True))
        ]
        start = "  ".join(cells[:-1]) + "  "
        room = max(width - len(start), len(rows[0][-1]))
        last = row[-1] if len(row[-1]) <= room else row[-1][: room - 3] + "..."
        lines.append((start + last).rstrip())
    return "\n".join(lines)


def _numbers(profile: Profile, part: Row | Total) -> list[str]:
    peak, roof = profile.share_of_peak(part), profile.share_of_roof(part)
    whole = profile.total.seconds or 1.0
    rate = part.flops / part.seconds / 1e9 if part.seconds else 0.0
    return [
        _written(part.seconds * _unit(profile)[1]), f"{part.seconds / whole:.1%}",
        f"{part.flops / 1e6:.1f}",
        f"{rate:.1f}" if peak is None else f"{peak:.0%}", f"{part.nbytes / 1e6:.1f}",
        *([] if roof is None else [f"{roof:.0%}"]),
    ]  # fmt: skip


def shortened(ops: Sequence[str], most: int = 6) -> str:
    """The ops of a kernel in a few words."""
    names = list(dict.fromkeys(ops))
    more = f" +{len(names) - most}" if len(names) > most else ""
    return " ".join(names[:most]) + more


def _unit(profile: Profile) -> tuple[str, float]:
    """Microseconds for short steps, else milliseconds; and how many of them make a second."""
    return ("us", 1e6) if profile.seconds < 1e-3 else ("ms", 1e3)


def _time(profile: Profile, seconds: float | None = None) -> str:
    unit, count = _unit(profile)
    return f"{_written((profile.seconds if seconds is None else seconds) * count)} {unit}"


def _written(number: float) -> str:
    """With the digits that matter."""
    return f"{number:.1f}" if number >= 100 else f"{number:.2f}"
