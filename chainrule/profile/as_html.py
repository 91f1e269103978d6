"""A profile as a page with a flame view and a roofline: all in the one file, for any browser.

Each bar is as wide as its time: the step on top, below it forward, backward and update, then the
layers by their paths, then kernels. A click enlarges a bar.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from string import Template
from typing import Any

from chainrule.profile import roofline
from chainrule.profile.as_text import limits, shortened
from chainrule.profile.record import PHASES, Profile, Row, Total


@dataclass
class _Bar:
    """A bar of the flame view, and what stands below it."""

    name: str
    rows: list[Row] = field(default_factory=list)
    below: dict[str, _Bar] = field(default_factory=dict)
    kernel: Row | None = None

    def put(self, path: tuple[str, ...], row: Row, number: int) -> None:
        """A row, in this bar and in those along the path."""
        self.rows.append(row)
        if path:
            self.below.setdefault(path[0], _Bar(path[0])).put(path[1:], row, number)
        else:
            self.below[f"kernel {number}"] = _Bar(row.kernel, [row], kernel=row)


def render(profile: Profile) -> str:
    """The page."""
    return _PAGE.substitute(
        title=html.escape(f"Profile of {profile.name}"),
        head=html.escape(_head(profile)),
        bars=json.dumps(_bars(profile)).replace("</", "<\\/"),
        colors=json.dumps(roofline.COLORS),
        layers=_layers(profile),
        roofline=_roofline(profile),
    )


def _head(profile: Profile) -> str:
    known = f"; {limits(profile)}" if profile.peak else ""
    return (
        f"{1e3 * profile.seconds:.3f} ms per call (median of {profile.rounds}), "
        f"{profile.executor} executor, 1 thread, {profile.processor}{known}"
    )


def _bars(profile: Profile) -> dict[str, Any]:
    top = _Bar(profile.name)
    for number, row in enumerate(sorted(profile.rows, key=lambda row: PHASES.index(row.phase))):
        top.put((row.phase, *row.layer), row, number)
    return _data(profile, top, "")


def _data(profile: Profile, bar: _Bar, phase: str) -> dict[str, Any]:
    """A bar as the page's script reads it."""
    total = Total((bar.name,), tuple(bar.rows))
    peak, roof = profile.share_of_peak(total), profile.share_of_roof(total)
    lines = [
        f"{1e3 * total.seconds:.4f} ms",
        f"{total.seconds / (profile.total.seconds or 1.0):.1%} of the time",
        f"{total.flops / 1e6:.2f} MFLOP",
        *([f"{peak:.0%} of the FMA peak"] if peak is not None else []),
        f"{total.nbytes / 1e6:.2f} MB",
        *([f"{roof:.0%} of the roof: its operations or its bytes take that long"] if roof else []),
        str(total.source or ""),
    ]
    if bar.kernel:
        calls = f", {bar.kernel.calls} times" if bar.kernel.calls > 1 else ""
        lines.append(f"kernel {bar.kernel.kernel}{calls}: {' '.join(bar.kernel.ops)}")
    phase = phase or (bar.name if bar.name in PHASES else "")
    return {
        "name": shortened(bar.kernel.ops, 4) if bar.kernel else bar.name,
        "kernel": bar.kernel is not None,
        "phase": phase,
        "seconds": total.seconds,
        "about": [line for line in lines if line],
        "below": [_data(profile, each, phase) for each in bar.below.values()],
    }


def _layers(profile: Profile) -> str:
    """The rows of the table of layers."""
    made = []
    for total in [*profile.by("layer"), profile.total]:
        peak, roof = profile.share_of_peak(total), profile.share_of_roof(total)
        phase, layer = (*total.name, "")[:2]
        cells = [
            phase, layer or "-", f"{1e3 * total.seconds:.3f}",
            f"{total.seconds / (profile.total.seconds or 1.0):.1%}", f"{total.flops / 1e6:.1f}",
            "" if peak is None else f"{peak:.0%}", f"{total.nbytes / 1e6:.1f}",
            "" if roof is None else f"{roof:.0%}",
            str(total.source or "") if phase != "total" else "",
        ]  # fmt: skip
        made.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join(made)


def _roofline(profile: Profile) -> str:
    """The picture, and what it shows."""
    picture = roofline.render(profile)
    return picture and f"<h2>Roofline</h2>\n<p>{_ABOUT_ROOFLINE}</p>\n{picture}"


_ABOUT_ROOFLINE = (
    "Each disc is a kernel, as large as its time; point at it to read which. The line is the most "
    "that one core can do: on the left it waits for memory, on the right for its own arithmetic. "
    "Discs above it found their data in the core's caches; far below it there is time to win."
)

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
  color: #1d1d1f; background: #fff; }
h1 { font-size: 1.4rem; margin: 0; }
p { color: #55555a; margin: .2rem 0 1rem; }
#flame { position: relative; }
.bar { position: absolute; height: 22px; box-sizing: border-box; border: 1px solid #fff;
  border-radius: 3px; padding: 0 4px; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; font: 12px/20px ui-monospace, monospace; color: #fff; cursor: pointer;
  text-align: left; }
.bar:hover, .bar:focus { filter: brightness(1.15); outline: 2px solid #1d1d1f; }
#about { min-height: 5.5em; font: 13px/1.5 ui-monospace, monospace; margin: .6rem 0 1.2rem;
  padding: .5rem .8rem; background: #f2f2f4; border-radius: 4px; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #e4e4e7; }
th:nth-child(-n+2), td:nth-child(-n+2), th:last-child, td:last-child { text-align: left; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 0; }
svg { width: 100%; max-width: 900px; font: 12px ui-monospace, monospace; fill: #55555a; }
.grid { stroke: #e4e4e7; }
.roof { stroke: #1d1d1f; stroke-width: 2; fill: none; }
circle { fill-opacity: .6; stroke: #fff; stroke-width: .5; }
tr:last-child td { font-weight: 600; border: 0; }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8ea; background: #18181b; }
  p { color: #a5a5ab; }
  #about { background: #27272a; }
  .bar { border-color: #18181b; }
  .bar:hover, .bar:focus { outline-color: #e8e8ea; }
  th, td { border-color: #3a3a3f; }
  svg { fill: #a5a5ab; }
  .grid { stroke: #3a3a3f; }
  .roof { stroke: #e8e8ea; }
  circle { stroke: #18181b; }
}
</style>
</head>
<body>
<h1>$title</h1>
<p>$head</p>
<div id="flame"></div>
<div id="about">Point at a bar to read about it; a click enlarges it, a click on the top bar shows
all again.</div>
$roofline
<h2>Layers</h2>
<table>
<thead><tr><th>phase</th><th>layer</th><th>ms</th><th>time</th><th>MFLOP</th><th>of peak</th>
<th>MB</th><th>of roof</th><th>line</th></tr></thead>
<tbody>
$layers
</tbody>
</table>
<script>
const top_bar = $bars, colors = $colors, height = 23;
const flame = document.getElementById("flame"), about = document.getElementById("about");
const depth = bar => 1 + Math.max(0, ...bar.below.map(depth));
function show(path) {
  flame.replaceChildren();
  const focus = path[path.length - 1];
  path.slice(0, -1).forEach((bar, row) => draw(bar, row, 0, 1, path.slice(0, row + 1)));
  lay(focus, path.length - 1, 0, 1, path);
  flame.style.height = height * (path.length - 1 + depth(focus)) + "px";
}
function lay(bar, row, left, width, path) {
  draw(bar, row, left, width, path);
  let start = left;
  for (const each of bar.below) {
    const part = bar.seconds ? width * each.seconds / bar.seconds : 0;
    if (part > 0.0008) lay(each, row + 1, start, part, [...path, each]);
    start += part;
  }
}
function draw(bar, row, left, width, path) {
  const made = document.createElement("button");
  made.className = "bar";
  made.textContent = bar.name;
  made.title = [bar.name, ...bar.about].join("\\n");
  made.style.left = 100 * left + "%";
  made.style.width = 100 * width + "%";
  made.style.top = row * height + "px";
  made.style.background = colors[bar.phase] || "#6b6b70";
  if (bar.kernel) made.style.opacity = .78;
  const tell = () => {
    about.replaceChildren();
    [path.map(each => each.name).join(" / "), ...bar.about].forEach(line => {
      const part = document.createElement("div");
      part.textContent = line;
      about.append(part);
    });
  };
  made.addEventListener("mouseenter", tell);
  made.addEventListener("focus", tell);
  made.addEventListener("click", () => { show(path); tell(); });
  flame.append(made);
}
show([top_bar]);
</script>
</body>
</html>
""")
