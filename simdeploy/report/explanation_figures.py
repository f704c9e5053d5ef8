"""Figures of an explanation: what moves a metric as a tornado, and when the steps of the worst run ran."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simdeploy.errors import StudyError
from simdeploy.plan.metrics import METRICS
from simdeploy.report.figures import COLOURS, GANTT_ROWS, few_ticks, figure_of, gantt_figure, save_all, time_scale
from simdeploy.study.comparison import mean_of, with_unit, words
from simdeploy.study.explanation import Explanation
from simdeploy.study.robustness import Robustness, Variant
from simdeploy.study.worst import WorstRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALVED, DOUBLED = COLOURS["changing"], COLOURS["taking"]
MOST_BARS = 15
LABEL = 44
"""Letters of an input's path that fit beside its bar."""


def tornado_figure(varied: Robustness | Explanation) -> Figure:
    """How far each input moves the metric when it is halved and when it is doubled, the largest swing at the top.

    Raises StudyError for an explanation without its sensitivity.
    """
    from matplotlib.patches import Patch

    if isinstance(varied, Explanation):
        if varied.sensitivity is None:
            raise StudyError("this explanation has no sensitivity to draw; ask explain for it with parts=['sensitivity']")
        varied = varied.sensitivity
    ordered = sorted((i for i in varied.inputs if i.swing > 0), key=lambda i: -i.swing)
    shown = ordered[:MOST_BARS]
    figure = figure_of(8.5, 1.7 + 0.34 * max(1, len(shown)))
    ax = figure.subplots()
    ends = [d.mean for i in shown for v in (i.half, i.double) if (d := v.difference)]
    scale, unit = time_scale(max((abs(x) for x in ends), default=0.0)) if METRICS[varied.metric].unit == "s" else (1.0, "")
    for colour, side in ((HALVED, "half"), (DOUBLED, "double")):
        for row, one in enumerate(shown):
            variant: Variant = getattr(one, side)
            if variant.difference is None:
                continue
            mean = variant.difference.mean / scale
            ax.barh(row, mean, height=0.6, color=colour)
            low, high = (x / scale for x in variant.difference.ci95 or (variant.difference.mean,) * 2)
            ax.plot([low, high], [row, row], color="#222222", linewidth=1.1, solid_capstyle="butt")
            if mean:
                said = f"{mean:+,.0f}" if abs(mean) >= 1000 else f"{mean:+.3g}"
                place, side_of = ((high, 4), "left") if mean > 0 else ((low, -4), "right")
                ax.annotate(said, (place[0], row), (place[1], 0), textcoords="offset points", ha=side_of, va="center", fontsize=7)
    if not shown:
        ax.text(0.5, 0.5, "no input moves it", ha="center", va="center", transform=ax.transAxes, fontsize=9)
    labels = [i.at.removeprefix("services.").replace(".actions.", ".") for i in shown]
    ax.set_yticks(range(len(shown)), [f"{'…' if len(n) > LABEL else ''}{n[-LABEL:]}\n{i.was}" for n, i in zip(labels, shown, strict=True)])
    ax.tick_params(axis="y", labelsize=7, length=0)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_ylim(max(1, len(shown)) - 0.4, -0.6)
    ax.axvline(0, color="#333333", linewidth=0.9)
    ax.xaxis.set_major_locator(few_ticks())
    ax.xaxis.set_major_formatter("{x:+,g}")
    ax.set_xlabel(f"difference in {words(varied.metric)}{f' [{unit}]' if unit else ''}, mean and 95 % interval", fontsize=9)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    now = with_unit(mean_of(varied.outcome, varied.metric), varied.metric)
    more = f" (first {len(shown)} of {len(ordered)} inputs)" if len(ordered) > len(shown) else ""
    ax.set_title(f"{varied.recommended}: what moves {words(varied.metric)}, {now} as it is{more}", loc="left", fontsize=9)
    ax.margins(x=0.14)
    handles = [Patch(color=HALVED, label="halved"), Patch(color=DOUBLED, label="doubled")]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure


def worst_figure(run: WorstRun) -> Figure:
    """The steps of the worst run over time; those that its end waited for in bold, of a large plan only these."""
    critical = {s.step for s in run.steps if s.critical}
    drawn = {s.step for s in run.steps if s.result != "unfinished"}
    trace, which = run.trace, "bold: its end waited for it"
    if len(drawn) > GANTT_ROWS:
        drawn, which = drawn & critical, "only what its end waited for"
        trace = trace._replace(records=[r for r in trace.records if r.subject in drawn])
    figure = gantt_figure(run.plan, trace)
    ax = figure.axes[0]
    for label, step in zip(ax.get_yticklabels(), (s for s in run.plan.steps if s.id in drawn), strict=False):
        label.set_fontweight("bold" if step.id in critical else "normal")
    title = f"{run.plan.source.strategy}: the worst run by {words(run.metric)}, {with_unit(run.value, run.metric)}"
    ax.set_title(f"{title} (replication {run.replication}; {which})", loc="left", fontsize=9, pad=18)
    return figure


def save_explanation(explanation: Explanation, folder: str | pathlib.Path, formats: Sequence[str] = ("png", "svg")) -> list[pathlib.Path]:
    """Write the tornado and the schedule of the worst run, as far as *explanation* has them, into *folder*; the files written."""
    figures = {}
    if explanation.sensitivity is not None:
        figures["tornado"] = tornado_figure(explanation.sensitivity)
    if explanation.worst is not None:
        figures["worst-run"] = worst_figure(explanation.worst)
    return save_all(figures, folder, formats)
