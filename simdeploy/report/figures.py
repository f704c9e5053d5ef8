"""Figures: returned, never shown behind the user's back. The only door to matplotlib."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdeploy.environment.models import CHANGING, ELECTING, GIVING, MIGRATING, TAKING
from simdeploy.plan.plan import Plan
from simdeploy.plan.trace import Trace
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import Outcome
from simdeploy.simulation.sampler import Means
from simdeploy.study.comparison import Comparison
from simdeploy.units import format_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 600
"""Moments at which a band is drawn."""
GANTT_ROWS = 60
"""Steps that a Gantt chart shows at most; a larger plan shows its first ones."""
COLOURS = {
    "one": "#6b6b6b",
    "capacity": "#1f5f99",
    "demand": "#c44536",
    "taking": "#e09f3e",
    "changing": "#5b7db1",
    "giving": "#6a994e",
    "data": "#8d5a97",
    "other": "#8a8a8a",
}
KINDS = {
    "taking": (*TAKING, *ELECTING),
    "changing": CHANGING,
    "giving": GIVING,
    "data": MIGRATING,
}


LABELS = {"taking": "taking out", "changing": "changing", "giving": "giving back", "data": "data layer", "other": "other"}


def _figure(width: float, height: float) -> Figure:
    """An empty figure that pyplot does not know, so nothing shows it but a notebook that is handed it."""
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=100)
            return buffer.getvalue()

    return Picture(figsize=(width, height), layout="constrained")


def capacity_figure(comparison: Comparison) -> Figure:
    """Front-door capacity against demand over time, one panel per strategy: median and the middle 90 % of the runs."""
    outcomes = comparison.outcomes
    end_s = 1.05 * max(float(np.quantile(o.values["makespan_s"], 0.95)) for o in outcomes.values())
    highest = max(float(p.capacity[np.isfinite(p.capacity)].max(initial=0.0)) for o in outcomes.values() for p in o.paths)
    figure = _figure(8.5, 0.9 + 1.35 * len(outcomes))
    axes = figure.subplots(len(outcomes), 1, sharex=True, squeeze=False)[:, 0]
    scale, unit = _time_scale(end_s)
    for ax, (name, outcome) in zip(axes, outcomes.items(), strict=True):
        _band(ax, outcome, end_s, scale)
        ax.set_ylim(0, 1.15 * highest)
        ax.set_xlim(0, end_s / scale)
        mark = "  (recommended)" if name == comparison.recommended else ""
        ax.set_title(f"{name}{mark}", loc="left", fontsize=9, fontweight="bold" if mark else "normal")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    figure.supylabel("req/s at the front door", fontsize=9)
    axes[-1].set_xlabel(f"time since the start [{unit}]", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4, fontsize=8, frameon=False)
    return figure


def gantt_figure(plan: Plan, trace: Trace | None = None) -> Figure:
    """The steps of *plan* over time, one row each, in one run: *trace*, or the run with every duration at its mean."""
    from matplotlib.patches import Patch

    if trace is None:
        engine = Engine(plan)
        trace = engine.trace(Means(plan, engine.names))
    spans = _spans(trace)
    shown = [s for s in plan.steps if s.id in spans and s.kind != "judge"][:GANTT_ROWS]
    end_s = max((spans[s.id][1] for s in shown), default=1.0) or 1.0
    scale, unit = _time_scale(end_s)
    figure = _figure(8.5, 1.2 + 0.2 * len(shown))
    ax = figure.subplots()
    used = []
    for row, step in enumerate(shown):
        start, end = spans[step.id]
        kind = next((k for k, actions in KINDS.items() if step.action.split("#")[0] in actions), "other")
        used.append(kind)
        ax.broken_barh([(start / scale, max(end - start, 0.002 * end_s) / scale)], (row - 0.38, 0.76), color=COLOURS[kind])
        ax.text(end / scale + 0.006 * end_s / scale, row, format_s(end - start), va="center", fontsize=6.5, color="#444444")
    ax.set_yticks(range(len(shown)), [s.id.partition("/")[2] or s.id for s in shown], fontsize=7)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.09 * end_s / scale)
    ax.set_xlabel(f"time since the start [{unit}]", fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    more = f" (first {len(shown)} of {len(spans)} steps)" if len(shown) == GANTT_ROWS else ""
    ax.set_title(f"{plan.source.strategy}: mean run{more}", loc="left", fontsize=9)
    names = [k for k in (*KINDS, "other") if k in used]
    ax.legend(handles=[Patch(color=COLOURS[k], label=LABELS[k]) for k in names], loc="lower left", fontsize=7, frameon=True, framealpha=0.9)
    return figure


def save_figures(comparison: Comparison, folder: str | pathlib.Path, formats: Sequence[str] = ("png", "svg")) -> list[pathlib.Path]:
    """Write the capacity figure and a Gantt chart per strategy into *folder*; the files written."""
    from matplotlib import rc_context

    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    figures = {"capacity": capacity_figure(comparison)}
    figures |= {f"gantt-{name}": gantt_figure(outcome.plan) for name, outcome in comparison.outcomes.items()}
    written = []
    with rc_context({"svg.hashsalt": "simdeploy"}):  # the same picture is the same file
        for name, figure in figures.items():
            for kind in formats:
                path = target / f"{name}.{kind}"
                metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(path, dpi=110, metadata=metadata)
                written.append(path)
    return written


def _band(ax: Axes, outcome: Outcome, end_s: float, scale: float) -> None:
    """Capacity's median and middle 90 % on a grid of moments, and demand."""
    grid = np.linspace(0, end_s, GRID)
    capacity = np.array([_at(p.times, p.capacity, grid) for p in outcome.paths])
    low, middle, high = np.quantile(capacity, (0.05, 0.5, 0.95), axis=0, method="inverted_cdf")
    demand = _at(outcome.paths[0].times, outcome.paths[0].demand, grid)
    ax.fill_between(grid / scale, low, high, step="post", color=COLOURS["capacity"], alpha=0.2, linewidth=0, label="90 % of the runs")
    ax.step(grid / scale, middle, where="post", color=COLOURS["capacity"], linewidth=1.3, label="capacity (median)")
    one = outcome.paths[0]
    times, course = np.append(one.times, end_s) / scale, np.append(one.capacity, one.capacity[-1])
    ax.step(times, course, where="post", color=COLOURS["one"], linewidth=0.7, label="one run")
    ax.step(grid / scale, demand, where="post", color=COLOURS["demand"], linewidth=1.1, linestyle="--", label="demand")


def _at(times: NDArray[np.float64], values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.searchsorted(times, grid, side="right") - 1]


def _spans(trace: Trace) -> dict[str, tuple[float, float]]:
    began = {r.subject: r.at_s for r in trace if r.kind == "began"}
    return {r.subject: (began[r.subject], r.at_s) for r in trace if r.kind == "ended" and r.subject in began}


def _time_scale(end_s: float) -> tuple[float, str]:
    return (3600.0, "h") if end_s > 3 * 3600 else (60.0, "min") if end_s > 180 else (1.0, "s")
