"""Figures of capacity planning: what is carried as demand grows, and what it costs to begin at each hour."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from simdeploy.environment.demand import DAY_S
from simdeploy.errors import StudyError
from simdeploy.report.figures import COLOURS, figure_of, save_all
from simdeploy.study.capacity import Capacity
from simdeploy.study.windows import DAYS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = (
    ("steady", "giving", "steady_per_s"),
    ("while it runs", "changing", "upgrade_per_s"),
    ("a machine lost too", "taking", "lost_per_s"),
)
"""Label, colour and field of what is carried, from the most to the least."""


def headroom_figure(found: Capacity) -> Figure:
    """Capacity of the front door and of each service against the demand as it grows: steady, while the plan runs, a machine lost."""
    peak = found.environment.demand.peak_per_s
    rooms = [h for h in found.headroom if h.steady_per_s is not None]
    most = max((n.growth for n in found.needs), default=2.0)
    figure = figure_of(8.5, 1.4 + 0.55 * len(rooms))
    ax = figure.subplots()
    for k, (label, colour, field) in enumerate(STATES):
        values = [getattr(h, field) or 0.0 for h in rooms]
        ax.barh([i + 0.27 * (k - 1) for i in range(len(rooms))], values, height=0.25, color=COLOURS[colour], label=label)
    for growth in sorted({1.0, most}):
        ax.axvline(peak * growth, color="#333333", linestyle="-" if growth == 1.0 else "--", linewidth=1)
        ax.annotate(f" demand x {growth:g}", (peak * growth, -0.75), fontsize=8)
    ax.set_yticks(range(len(rooms)), [h.service or "front door" for h in rooms])
    ax.set_ylim(len(rooms) - 0.4, -1.0)
    ax.set_xlabel("requests a second at the front door")
    ax.set_title(f"What is carried, with {found.strategy}", fontsize=10, loc="left")
    ax.legend(fontsize=8, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def growth_figure(found: Capacity) -> Figure:
    """Two curves over the growth of the demand: what the front door has left, and how many machines each tier needs."""
    growths = sorted({spare.growth for spare in found.spare})
    door = [spare for spare in found.spare if not spare.service]
    figure = figure_of(8.5, 3.4)
    left, right = figure.subplots(1, 2)
    for label, colour, field in STATES:
        values = [getattr(spare, field) for spare in door]
        if None not in values:
            left.plot(growths, values, marker="o", markersize=3, color=COLOURS[colour], label=label)
    left.axhline(0.0, color="#333333", linewidth=1)
    bottom = min(0.0, left.get_ylim()[0])
    left.set_ylim(bottom=bottom)
    left.axhspan(bottom, 0.0, color=COLOURS["taking"], alpha=0.08, linewidth=0)
    left.set_ylabel("req/s left at the front door")
    left.set_title(f"Left over, with {found.strategy}", fontsize=10, loc="left")
    left.legend(fontsize=8)
    for k, tier in enumerate(dict.fromkeys(n.tier for n in found.needs)):
        cells = [n for n in found.needs if n.tier == tier and n.needs is not None]
        if cells:
            style = ("-", "--", "-.", ":")[k % 4]
            right.plot(
                [n.growth for n in cells], [n.needs or 0 for n in cells], style, drawstyle="steps-pre", marker="o", markersize=4, label=tier
            )
    right.set_ylim(0, 1.1 * right.get_ylim()[1])
    right.yaxis.get_major_locator().set_params(integer=True)
    right.set_title("Machines needed, one lost meanwhile", fontsize=10, loc="left")
    if right.lines:
        right.legend(fontsize=8, loc="lower right")
    for ax in (left, right):
        ax.set_xlabel("times today's demand")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def windows_figure(found: Capacity) -> Figure:
    """Failed requests (mean) and risk by the hour at which the plan begins, a row for each day.

    Raises StudyError where demand does not change.
    """
    if found.windows is None:
        raise StudyError("the demand does not change over time, so every moment to begin is the same")
    tried, weekly = found.windows.tried, found.windows.cycle_s > DAY_S
    risk = "Share of the runs " + ("that break a goal" if found.cheapest is not None else "in which capacity falls below the demand")
    maps = (("Failed requests (mean)", [w.failed_requests for w in tried], None), (risk, [w.risk for w in tried], 1.0))
    figure = figure_of(8.5, 2 * (1.4 + 0.25 * len(tried) / 24))
    axes = figure.subplots(2, 1, sharex=True)
    for ax, (title, values, most) in zip(axes, maps, strict=True):
        shown = ax.imshow(np.array(values).reshape(-1, 24), aspect="auto", cmap="cividis_r", vmin=0, vmax=most)
        ax.set_yticks(range(len(values) // 24), DAYS[: len(values) // 24] if weekly else [""])
        ax.set_title(title, fontsize=10, loc="left")
        figure.colorbar(shown, ax=ax, pad=0.01)
        for window in found.windows.best:
            ax.text(window.hour, int(window.at_s // DAY_S), "\u2605", ha="center", va="center", fontsize=9, color="#c0392b")
    axes[1].set_xticks(range(0, 24, 3), [f"{h:02d}:00" for h in range(0, 24, 3)])
    axes[1].set_xlabel(f"hour at which {found.strategy} begins; \u2605 best")
    return figure


def save_capacity_figures(found: Capacity, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the figures that there are into *folder* as PNG and SVG; the files. Raises StudyError where that cannot be done."""
    figures = {"headroom": headroom_figure(found), "growth": growth_figure(found)}
    if found.windows is not None:
        figures["windows"] = windows_figure(found)
    return save_all(figures, folder)
