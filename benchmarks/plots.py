"""The pictures of the report."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from candidates import COMPILED, EAGER, FUSED, JAX, NHWC, ONNX, OURS
from figures import MEGABYTE, Results, cells, median, ratio
from workloads import SIZES

from chainrule.profile.roofline import COLORS as PHASES

COLORS = {
    OURS: "#1a1a1a", EAGER: "#f4a582", FUSED: "#d6604d", NHWC: "#b2182b", COMPILED: "#67001f",
    JAX: "#4393c3", ONNX: "#5aae61",
}  # fmt: skip


def draw(results: Results, folder: Path) -> list[str]:
    """Draw what there are numbers for; the names of the pictures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made = []
    for name, make in PICTURES.items():
        figure = make(plt, results)
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
            plt.close(figure)
            made.append(f"{name}.png")
    return made


def _training(plt: Any, results: Results) -> Any:
    panels = sorted({(r.threads, 0) for r in results.rows if r.kind == "training"})
    return _ratios(plt, results, "training", panels)


def _inference(plt: Any, results: Results) -> Any:
    panels = sorted({(r.threads, r.batch) for r in results.rows if r.kind == "inference"})
    return _ratios(plt, results, "inference", panels)


def _ratios(plt: Any, results: Results, kind: str, panels: list[tuple[int, int]]) -> Any:
    """Each peer's time over ours on every workload, with intervals; a panel per setting."""
    if not panels:
        return None
    found = cells(results.rows)
    size = (11, 3.6 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, layout="constrained", squeeze=False)
    for axis, (threads, batch) in zip(axes[:, 0], panels, strict=True):
        here = {
            workload: cell
            for (each, workload, size_, count), cell in found.items()
            if (each, count) == (kind, threads) and batch in (0, size_) and OURS in cell
        }
        for place, cell in enumerate(here.values()):
            peers = [name for name in COLORS if name in cell and name != OURS]
            width = 0.8 / max(len(peers), 1)
            for number, peer in enumerate(peers):
                one = ratio(cell[peer], cell[OURS])
                axis.bar(
                    place + (number - (len(peers) - 1) / 2) * width, one.median - 1, width * 0.92,
                    bottom=1, yerr=[[one.median - one.low], [one.high - one.median]],
                    color=COLORS[peer], error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
                )  # fmt: skip
        axis.axhline(1, color="black", linewidth=1)
        axis.set_yscale("log", base=2)
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, 0.5), max(high, 4))
        axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_xticks(range(len(here)), list(here))
        axis.set_ylabel("time / ours")
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        what = f"{kind}, batch {batch}" if batch else kind
        axis.set_title(
            f"{what}, {threads} thread{'s' if threads > 1 else ''}: above 1, chainrule is faster",
            fontsize=10,
        )
    present = {row.candidate for row in results.rows if row.kind == kind} - {OURS}
    names = [name for name in COLORS if name in present]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in names]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return figure


def _start(plt: Any, results: Results) -> Any:
    """Seconds to the first step, peak memory, and installed size."""
    if not (results.starts and results.installed):
        return None
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    names, values, colors = [], [], []
    for row in results.starts:
        names.append(f"{row.workload} {row.candidate} {row.cache}".strip())
        values.append(statistics.median(row.seconds))
        colors.append(COLORS[row.candidate])
    _bars(axes[0], names, values, colors, "process start to first step (s)", "{:.2f}")
    names, values, colors = [], [], []
    for row in results.rows:
        if (row.kind, row.threads) == ("training", 1) and row.workload in ("W1", "W4"):
            names.append(f"{row.workload} {row.candidate}")
            values.append((row.memory or 0) / MEGABYTE)
            colors.append(COLORS[row.candidate])
    _bars(axes[1], names, values, colors, "peak memory of training (MB)", "{:.0f}")
    names = list(results.installed)
    values = [size / MEGABYTE for size in results.installed.values()]
    _bars(axes[2], names, values, [COLORS[name] for name in names], "installed (MB)", "{:.0f}")
    return figure


def _bars(
    axis: Any, names: list[str], values: list[float], colors: list[str], title: str, form: str
) -> None:
    bars = axis.barh(range(len(names)), values, color=colors)
    axis.bar_label(bars, [form.format(value) for value in values], fontsize=8, padding=2)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title(title, fontsize=10)


def _scaling(plt: Any, results: Results) -> Any:
    """Time of a step over each size, by candidate and threads."""
    rows = [row for row in results.rows if row.kind == "scaling"]
    kinds = [
        kind for kind in SIZES
        if len({r.workload for r in rows if r.workload.startswith(f"{kind}:")}) > 1
    ]  # fmt: skip
    if not kinds:
        return None
    size = (11, 3.4 * -(-len(kinds) // 2))
    figure, axes = plt.subplots(-(-len(kinds) // 2), 2, figsize=size, layout="constrained")
    for axis, kind in zip(axes.flat, kinds, strict=False):
        lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
        for row in rows:
            family, _, number = row.workload.partition(":")
            if family == kind:
                line = lines.setdefault((row.candidate, row.threads), [])
                line.append((int(number), 1e3 * median(row)))
        for (name, threads), points in lines.items():
            style = "-" if threads == 1 else "--"
            label = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
            axis.plot(
                *zip(*sorted(points), strict=True), style, color=COLORS[name], label=label,
                marker="o", markersize=3,
            )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        for line in (axis.xaxis, axis.yaxis):
            line.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(plt.NullFormatter())
        axis.set_xlabel(kind)
        axis.set_ylabel("ms per step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, frameon=False)
    for axis in list(axes.flat)[len(kinds) :]:
        axis.set_axis_off()
    return figure


def _roofline(plt: Any, results: Results) -> Any:
    """Each kernel of our training steps against the most that one core can do."""
    if not results.roofs:
        return None
    across = 4
    down = -(-len(results.roofs) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(11, 2.9 * down), layout="constrained", sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axis, (name, roof) in zip(axes.flat, results.roofs.items(), strict=False):
        whole = sum(seconds for _, seconds, _, _ in roof.kernels)
        for phase, color in PHASES.items():
            here = [
                (flops / nbytes, flops / seconds / 1e9, 1500 * seconds / whole)
                for each, seconds, flops, nbytes in roof.kernels
                if each == phase and min(seconds, flops, nbytes) > 0
            ]
            if here:
                axis.scatter(*zip(*here, strict=True), color=color, alpha=0.6, linewidths=0)
        ends = np.array([0.1, roof.peak / roof.memory, 1000])
        axis.plot(ends, np.minimum(ends * roof.memory, roof.peak) / 1e9, "k-", linewidth=1)
        axis.set_title(f"{name}: {roof.share:.0%} of the roof", fontsize=10)
        axis.set(xscale="log", yscale="log", xlim=(0.1, 1000), ylim=(1, 1000))
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(results.roofs) :]:
        axis.set_axis_off()
    figure.supxlabel("operations per byte", fontsize=10)
    figure.supylabel("GFLOP/s", fontsize=10)
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=c) for c in PHASES.values()]
    figure.legend(handles, list(PHASES), loc="outside upper center", ncols=3, frameon=False)
    return figure


# In the order of the report.
PICTURES = {
    "roofline": _roofline, "training": _training, "inference": _inference, "start": _start,
    "scaling": _scaling,
}  # fmt: skip
