"""A plan at a glance, and how the values of metrics are written."""

from __future__ import annotations

import math

from simdeploy.plan.findings import Vetting
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.tables import Table
from simdeploy.units import format_s


def number(metric: str, value: float | None) -> str:
    """*value* of *metric* for reading: '3.5 s', '12,041', '80.0 %'; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "no bound"
    unit = METRICS[metric].unit
    if unit == "s":
        return format_s(value)
    if metric == "availability":
        return f"{100 * value:.4g} %"
    if unit in ("share", "probability"):
        return f"{100 * value:.0f} %" if value in (0, 1) else f"{100 * value:.1f} %"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _takes(step: Step) -> str:
    if step.until_idle:
        return f"until idle, at most {format_s(step.timeout_s or 0.0)}"
    if step.replays:
        return f"until the log of {step.replays} is replayed"
    return "-" if step.kind == "judge" else str(step.duration)


def steps(plan: Plan) -> Table:
    """One row per step of a plan."""
    rows = [
        (s.id, s.on or "desk", _takes(s), ", ".join((*s.needs, *s.after)) or "start")
        for s in plan.steps
    ]  # fmt: skip
    return Table(
        f"{plan.source.scenario}, {plan.source.strategy}: {len(rows)} steps",
        ("step", "on", "takes", "comes after"),
        rows,
        left=(0, 1, 2, 3),
    )


def findings(vetting: Vetting) -> Table:
    """What vetting found: a row for each finding, the risk that was accepted below."""
    rows = [(f.severity, f.id, f"{f.message}; {f.cure}") for f in vetting.findings]
    title = f"{len(rows)} findings and notes" if rows else "No findings"
    return Table(title, ("", "finding", "what is wrong, and what would mend it"), rows, "\n".join(vetting.accepted), left=(0, 1, 2))
