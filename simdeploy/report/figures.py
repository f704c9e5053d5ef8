"""Figures: returned, never shown behind the user's back."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdeploy.environment.models import CHANGING, GIVING, TAKING
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.plan.trace import Trace
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import Outcome
from simdeploy.simulation.sampler import Means
from simdeploy.study.comparison import Comparison, words
from simdeploy.study.courses import held_at
from simdeploy.units import TIME, format_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 600
"""Moments at which a band is drawn."""
ONE_COLUMN = 6
"""Strategies up to which the panels of capacity stand below each other."""
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
    "checking": "#2a9d8f",
    "people": "#c9b458",
    "other": "#8a8a8a",
}
KINDS = {
    "taking": ("hand_over", "weigh", *TAKING, "keep", "release"),
    "changing": (*CHANGING, "allocate", "prerequisites", "patch", "reboot"),
    "giving": (*GIVING, "switch", "promote", "repoint", "open"),
    "data": (
        *("migrate", "expand", "backfill", "index", "contract", "back_up", "split", "reconcile"),
        *("create_schema", "load_data", "seed", "restore", "replay"),
    ),
    "checking": ("bake", "validate"),
    "people": ("detect", "notice", "decide", "certificate", "network", "load_balancer", "fix"),
}


PANELS = ("downtime_s", "failed_requests", "makespan_s")
"""The metrics that have a panel each where strategies are put side by side."""
LINES = ("#1f5f99", "#c44536", "#6a994e", "#e09f3e", "#8d5a97", "#2a9d8f", "#6b6b6b", "#b5651d")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
PALETTE = 48
"""Colours of a small picture."""
DECADES = 2
"""Powers of ten from which on values are drawn on a logarithmic axis."""
MARKS_S = (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400)
"""Where a logarithmic axis of time is marked."""
LABELS = {
    "taking": "taking out",
    "changing": "changing",
    "giving": "giving back",
    "data": "data layer",
    "checking": "checking",
    "people": "people",
    "other": "other",
}


def figure_of(width: float, height: float) -> Figure:
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
    columns = 1 if len(outcomes) <= ONE_COLUMN else 2
    lines = -(-len(outcomes) // columns)
    figure = figure_of(8.5 if columns == 1 else 11, 0.9 + 1.35 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    scale, unit = time_scale(end_s)
    for ax, (name, outcome) in zip(panels.flat, outcomes.items(), strict=False):
        _band(ax, outcome, end_s, scale)
        ax.set_ylim(0, 1.15 * highest)
        ax.set_xlim(0, end_s / scale)
        mark = "  (recommended)" if name == comparison.recommended else ""
        ax.set_title(f"{name}{mark}", loc="left", fontsize=9, fontweight="bold" if mark else "normal")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    for spare in panels.flat[len(outcomes) :]:
        spare.axis("off")
    for ax in panels.flat[max(0, len(outcomes) - columns) : len(outcomes)]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel(f"time since the start [{unit}]", fontsize=9)
    figure.supylabel("req/s at the front door", fontsize=9)
    shown = {label: handle for ax in panels.flat[: len(outcomes)] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(shown.values()), list(shown), loc="outside upper right", ncols=6, fontsize=8, frameon=False)
    return figure


def distributions_figure(comparison: Comparison) -> Figure:
    """How a metric is spread over the replications, one panel per metric: the share of the runs up to each value, by strategy."""
    figure = figure_of(11, 4.2)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for ax, metric in zip(panels, PANELS, strict=True):
        values = {name: outcome.values[metric] for name, outcome in comparison.outcomes.items()}
        scale = _value_axis(ax, metric, np.concatenate(list(values.values())))
        for k, (name, x) in enumerate(values.items()):
            # the earlier lines are the wider ones, so that one on which a later one lies still shows
            width = 1.2 + 1.8 * (len(values) - 1 - k) / max(1, len(values) - 1)
            colour, dash = LINES[k % len(LINES)], DASHES[k % len(DASHES)] if k else "-"
            ax.ecdf(x / scale, label=_starred(comparison, name), color=colour, linestyle=dash, linewidth=width)
        ax.grid(color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    panels[0].set_ylabel("share of the runs up to this value", fontsize=9)
    panels[0].yaxis.set_major_formatter("{x:.0%}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False, handlelength=3.5)
    figure.suptitle(f"Spread over {comparison.replications:,} runs of each strategy", x=0.01, ha="left", fontsize=10)
    return figure


def differences_figure(comparison: Comparison) -> Figure:
    """How much each strategy costs more or less than the baseline under the same luck, one panel per metric: mean and 95 % interval."""
    names = [n for n in comparison.outcomes if n != comparison.baseline]
    figure = figure_of(11, 1.5 + 0.36 * len(names))
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for ax, metric in zip(panels, PANELS, strict=True):
        differences = [comparison.difference(n, metric) for n in names]
        scale, unit = time_scale(max((abs(d.mean) for d in differences if d), default=0.0)) if METRICS[metric].unit == "s" else (1.0, "")
        for row, difference in enumerate(differences):
            if difference is None:
                continue
            low, high = difference.ci95 or (difference.mean, difference.mean)
            ax.plot([low / scale, high / scale], [row, row], color=COLOURS["capacity"], linewidth=2.2, solid_capstyle="butt")
            mean = difference.mean / scale
            ax.plot(mean, row, "o", color=COLOURS["capacity"], markersize=3.2)
            said = "0" if mean == 0 else f"{mean:+,.0f}" if abs(mean) >= 1000 else f"{mean:+.3g}"
            text = ax.annotate(said, (mean, row), (0, 5), textcoords="offset points", ha="center", fontsize=7)
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        ax.axvline(0, color="#333333", linewidth=0.9)
        ax.set_xlabel(f"{words(metric)}{f' [{unit}]' if unit else ''}", fontsize=9)
        ax.margins(x=0.14)
        ax.set_ylim(len(names) - 0.5, -0.7)
        ax.grid(axis="x", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(few_ticks())
        ax.xaxis.set_major_formatter("{x:,g}")
    panels[0].set_yticks(range(len(names)), [_starred(comparison, n) for n in names], fontsize=8)
    title = f"Difference to {comparison.baseline} under the same luck: mean and 95 % interval of {comparison.replications:,} runs"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def gantt_figure(plan: Plan, trace: Trace | None = None) -> Figure:
    """The steps of *plan* over time, one row each, in one run: *trace*, or the run with every duration at its mean."""
    from matplotlib.patches import Patch

    run = "one run" if trace is not None else "mean run"
    if trace is None:
        engine = Engine(plan)
        trace = engine.trace(Means(plan, engine.names))
    spans = _spans(trace)
    shown = [s for s in plan.steps if s.id in spans and s.kind != "judge"][:GANTT_ROWS]
    end_s = max((spans[s.id][1] for s in shown), default=1.0) or 1.0
    scale, unit = time_scale(end_s)
    figure = figure_of(8.5, 1.2 + 0.2 * len(shown))
    ax = figure.subplots()
    used = []
    for row, step in enumerate(shown):
        start, end = spans[step.id]
        kind = kind_of(step)
        used.append(kind)
        ax.broken_barh([(start / scale, max(end - start, 0.002 * end_s) / scale)], (row - 0.38, 0.76), color=COLOURS[kind])
        ax.text(end / scale + 0.006 * end_s / scale, row, format_s(end - start), va="center", fontsize=6.5, color="#444444")
    ax.set_yticks(range(len(shown)), [s.id if s.section != "main" else s.id.partition("/")[2] or s.id for s in shown], fontsize=7)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.09 * end_s / scale)
    ax.set_xlabel(f"time since the start [{unit}]", fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    more = f" (first {len(shown)} of {len(spans)} steps)" if len(shown) == GANTT_ROWS else ""
    ax.set_title(f"{plan.source.strategy}: {run}{more}", loc="left", fontsize=9)
    names = [k for k in LABELS if k in used]
    handles = [Patch(color=COLOURS[k], label=LABELS[k]) for k in names]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(names), fontsize=7, frameon=False)
    return figure


def save_figures(comparison: Comparison, folder: str | pathlib.Path, formats: Sequence[str] = ("png", "svg")) -> list[pathlib.Path]:
    """Write the figures of *comparison* and a Gantt chart per strategy into *folder*; the files written."""
    figures = {"capacity": capacity_figure(comparison), "distributions": distributions_figure(comparison)}
    if len(comparison.outcomes) > 1:
        figures["differences"] = differences_figure(comparison)
    figures |= {f"gantt-{name}": gantt_figure(outcome.plan) for name, outcome in comparison.outcomes.items()}
    return save_all(figures, folder, formats)


def save_all(figures: Mapping[str, Figure], folder: str | pathlib.Path, formats: Sequence[str] = ("png", "svg")) -> list[pathlib.Path]:
    """Write each figure under its name into *folder*, in each of the *formats*; the files written."""
    from matplotlib import rc_context

    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    with rc_context({"svg.hashsalt": "simdeploy"}):  # the same picture is the same file
        for name, figure in figures.items():
            for kind in formats:
                path = target / f"{name}.{kind}"
                metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(path, dpi=110, metadata=metadata)
                written.append(path)
    return written


def save_small(figure: Figure, path: pathlib.Path) -> None:
    """Write *figure* as a PNG with a palette, a third of the size; the same picture is the same file."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    Image.open(buffer).convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE).save(path, optimize=True)


def _band(ax: Axes, outcome: Outcome, end_s: float, scale: float) -> None:
    """Capacity's median and middle 90 % on a grid of moments, and demand."""
    one = outcome.paths[0]
    grid = np.union1d(np.linspace(0, end_s, GRID), one.times[one.times <= end_s])
    capacity = np.array([held_at(p.times, p.capacity, grid) for p in outcome.paths])
    low, middle, high = np.quantile(capacity, (0.05, 0.5, 0.95), axis=0, method="inverted_cdf")
    demand = held_at(one.times, one.demand, grid)
    at = grid / scale
    ax.fill_between(
        at, np.minimum(middle, demand), demand, step="post", color=COLOURS["demand"], alpha=0.25, linewidth=0, label="demand above capacity"
    )
    if (low < high).any():
        ax.fill_between(at, low, high, step="post", color=COLOURS["capacity"], alpha=0.2, linewidth=0, label="90 % of the runs")
        times, course = np.append(one.times, end_s) / scale, np.append(one.capacity, one.capacity[-1])
        ax.step(times, course, where="post", color=COLOURS["one"], linewidth=0.7, label="one run")
    ax.step(at, middle, where="post", color=COLOURS["capacity"], linewidth=1.3, label="capacity (median)")
    ax.step(at, demand, where="post", color=COLOURS["demand"], linewidth=1.1, linestyle="--", label="demand")
    done = float(np.median(outcome.values["makespan_s"])) / scale
    ax.axvline(done, color=COLOURS["one"], linewidth=0.9, linestyle=(0, (1, 1.5)), label="plan ends (median)")


def kind_of(step: Step) -> str:
    """What sort of step it is, one of LABELS, for its colour."""
    action = step.action.partition("#")[0].removeprefix("out-")
    if step.kind == "gate":
        return "checking"
    return next((kind for kind, actions in KINDS.items() if action in actions), "other")


def _spans(trace: Trace) -> dict[str, tuple[float, float]]:
    began = {r.subject: r.at_s for r in trace if r.kind == "began"}
    return {r.subject: (began[r.subject], r.at_s) for r in trace if r.kind == "ended" and r.subject in began}


def _starred(comparison: Comparison, name: str) -> str:
    return f"{name} (recommended)" if name == comparison.recommended else name


def few_ticks() -> Any:
    """Where an axis of numbers is marked."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _value_axis(ax: Axes, metric: str, values: NDArray[np.float64]) -> float:
    """Label the axis of *metric*, logarithmic where its values span decades; what its values are to be divided by."""
    highest = float(values.max())
    lowest = float(values[values > 0].min(initial=highest))
    in_s = METRICS[metric].unit == "s"
    if highest < 10**DECADES * lowest or highest <= 0:
        scale, unit = time_scale(highest) if in_s else (1.0, "")
        ax.set_xlabel(f"{words(metric)}{f' [{unit}]' if unit else ''}", fontsize=9)
        ax.xaxis.set_major_locator(few_ticks())
        ax.xaxis.set_major_formatter("{x:,g}")
        return scale
    if (values <= 0).any():
        ax.set_xscale("symlog", linthresh=lowest)
    else:
        ax.set_xscale("log")
    ax.set_xlabel(f"{words(metric)} (logarithmic)", fontsize=9)
    if in_s:
        marks = [0.0] * bool((values <= 0).any()) + [at for at in MARKS_S if lowest / 1.5 <= at <= 1.5 * highest]
        ax.set_xticks(marks, [_mark(at) for at in marks])
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_formatter("{x:,g}")
    return 1.0


def _mark(at_s: float) -> str:
    """A mark of the time axis in its own unit: '60 s' is '1 min'."""
    unit, scale = next(((u, TIME[u]) for u in ("d", "h", "min", "s") if at_s >= TIME[u]), ("s", 1.0))
    return f"{at_s / scale:g} {unit}"


def time_scale(end_s: float) -> tuple[float, str]:
    """(divisor, unit) of an axis of times up to *end_s*."""
    return (3600.0, "h") if end_s > 3 * 3600 else (60.0, "min") if end_s > 180 else (1.0, "s")
