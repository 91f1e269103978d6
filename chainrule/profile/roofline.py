"""A profile as a picture of the roofline model: how near each kernel is to what one core can do.

Upwards are operations per second, to the right operations per byte that a kernel touches, both in
powers of ten. The roof is the pace of memory on the left, and the peak of the core on the right.
Above it are kernels that found their data in the core's caches.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator

from chainrule.profile.as_text import shortened
from chainrule.profile.record import Profile, Row

COLORS = {"forward": "#4a7fb5", "backward": "#c2703d", "update": "#5f9a62"}

_WIDTH, _HEIGHT = 900, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 14, 40
# Decades to the right, in operations per byte; what has more or fewer stands at the edge.
_LOW, _HIGH = -1, 3
_DECADES_UP = 3
_LARGEST = 40.0  # radius of a kernel that takes all the time


def render(profile: Profile) -> str:
    """The picture as SVG; nothing where peak and memory are not known."""
    if not (profile.peak and profile.memory):
        return ""
    chart = _Chart(profile)
    parts = [*chart.grid(), chart.roof(), *chart.kernels()]
    about = "Roofline: operations per second over operations per byte"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{about}">\n'
        + "\n".join(parts) + "\n</svg>"
    )  # fmt: skip


class _Chart:
    """Where numbers stand in the picture."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._top = math.ceil(math.log10(profile.peak))

    def x(self, intensity: float) -> float:
        """Of operations per byte."""
        power = min(max(_log(intensity), _LOW), _HIGH)
        return _LEFT + (power - _LOW) / (_HIGH - _LOW) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, rate: float) -> float:
        """Of operations per second."""
        down = min(max(self._top - _log(rate), 0), _DECADES_UP)
        return _TOP + down / _DECADES_UP * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> Iterator[str]:
        """A line and a number at each decade, and what the axes mean."""
        for power in range(_LOW, _HIGH + 1):
            x = self.x(10.0**power)
            yield f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
            yield _text(x, _HEIGHT - _BOTTOM + 15, f"{10.0**power:g}", "middle")
        for power in range(self._top - _DECADES_UP, self._top + 1):
            y = self.y(10.0**power)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            yield _text(_LEFT - 6, y + 4, f"{10.0 ** (power - 9):g}", "end")
        yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "operations per byte", "middle")
        yield _text(_LEFT + 6, _TOP + 12, "GFLOP/s", "start")

    def roof(self) -> str:
        """The pace of memory, then the peak."""
        peak, memory = self._profile.peak, self._profile.memory
        left, corner = 10.0**_LOW, peak / memory
        points = [(left, left * memory), (corner, peak), (10.0**_HIGH, peak)]
        line = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline class="roof" points="{line}"/>'

    def kernels(self) -> Iterator[str]:
        """A disc each, as large as its time; the little ones on top."""
        whole = self._profile.total.seconds
        for row in sorted(self._profile.rows, key=lambda row: -row.seconds):
            if row.seconds and row.flops:
                radius = max(1.0, _LARGEST * math.sqrt(row.seconds / whole))
                x = self.x(row.flops / row.nbytes if row.nbytes else math.inf)
                yield (
                    f'<circle cx="{x:.1f}" cy="{self.y(row.flops / row.seconds):.1f}" '
                    f'r="{radius:.1f}" fill="{COLORS.get(row.phase, "#6b6b70")}">'
                    f"<title>{html.escape(self._about(row))}</title></circle>"
                )

    def _about(self, row: Row) -> str:
        share = self._profile.share_of_roof(row) or 0.0
        where = f"{row.phase} {'.'.join(row.layer)}".strip()
        return (
            f"{where}: {row.kernel} ({shortened(row.ops, 4)})\n{1e3 * row.seconds:.3f} ms, "
            f"{row.flops / row.seconds / 1e9:.1f} GFLOP/s, {share:.0%} of the roof\n"
            f"{row.source or ''}"
        ).strip()


def _log(number: float) -> float:
    return math.log10(number) if number > 0 else -math.inf


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
