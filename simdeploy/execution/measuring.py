"""What was forecast, against what happened: observed from samples where there are any, else inferred from the steps or not known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from simdeploy.execution.history import Chronicle, History
from simdeploy.execution.journal import Entry
from simdeploy.execution.sightings import Sampled, Sightings
from simdeploy.plan.following import Measured, measure
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.plan.plan import Plan
from simdeploy.plan.trace import Trace
from simdeploy.tables import Table

USERS_NOTICE = (
    "downtime_s", "failed_requests", "availability", "cut_requests", "bad_release_requests", "data_loss_s", "lost_writes",
)  # fmt: skip
"""What steps do not show: without samples nobody has seen it."""

UNFINISHED = "not ended yet"
"""The outcome of a run that has none so far."""

OF_SAMPLES = ("downtime_s", "failed_requests", "availability")
"""What a prober sees of it."""

WHOLE = 0.95
"""Of a run's time that a prober must have seen, or its figures say how much it saw."""


def trace_of(plan: Plan, entries: Iterable[Entry]) -> Trace:
    """The trace that a journal is. Raises PlanError where it is of another plan."""
    history = History(plan, entries)
    return history.chronicle.trace(history.outcome)


def measured(plan: Plan, entries: list[Entry]) -> tuple[Measured, Sampled | None]:
    """The metrics of a run, from its journal, and what the prober saw.

    `observed`: from samples or from the steps' own times; `inferred`: from the steps, by the plan's effects; `not observed`:
    only users would have noticed, and nobody sampled. As in the forecast, integrals run to the plan's horizon; what lies behind the
    last step is inferred. Raises PlanError where the journal is of another plan.
    """
    history = History(plan, entries)
    so_far = history.chronicle.trace(None)
    until_last = measure(plan, Trace(so_far.records, so_far.end_s, history.outcome or "stuck", so_far.source)).values
    told = history.chronicle.trace(history.outcome)
    found, seen = measure(plan, told), sampled(plan, entries)
    values, known = dict(found.values), dict(found.known)
    known |= {name: "inferred" for name, value in values.items() if known[name] == "observed" and value != until_last[name]}
    if history.outcome is None:
        values |= dict.fromkeys(OUTCOMES)
        known |= dict.fromkeys(OUTCOMES, "not observed")
    for name in USERS_NOTICE:
        values[name], known[name] = None, "not observed"
    if seen is not None:
        for name in OF_SAMPLES:
            value = getattr(seen, name)
            values[name], known[name] = (None if math.isnan(value) else value), "observed"
    return Measured(values, known, history.outcome or UNFINISHED), seen


def sampled(plan: Plan, entries: list[Entry]) -> Sampled | None:
    """What the prober saw from the first step to the last; None without samples in that time."""
    chronicle, bins, last_s = Chronicle(plan), [], 0.0
    for entry in entries:
        chronicle.tell(entry)
        if entry.kind == "ended":
            last_s = chronicle.at_s(entry.mono_s)
        bins += chronicle.bins(entry)
    sightings = Sightings(plan)
    for at_s, width_s, asked, failed in bins:
        if at_s <= last_s:
            sightings.add(at_s, width_s, asked, failed)
    return sightings.found(last_s)


def comparison(plan: Plan, found: Measured, forecast: Forecast | None, seen: Sampled | None) -> Table:
    """A row for each metric that was forecast or happened: the forecast, what happened, and how that is known."""
    rows = []
    for name in METRICS:
        expected, value = forecast.metrics.get(name) if forecast else None, found.values[name]
        columns = (expected.p50, expected.p95) if expected else (None, None)
        if any(x not in (0.0, None) for x in (*columns, value)) or (name in OF_SAMPLES and seen is not None):
            rows.append((name, *(number(name, x) for x in (*columns, value)), found.known[name]))
    note = "" if seen is None else f"the prober asked {seen.asked:,} times, {seen.failed:,} failed; of the demand that share"
    if seen is not None and seen.share < WHOLE:
        note += f"; it saw {seen.share:.0%} of the run's time, and of the rest nothing is known"
    title = f"{plan.source.scenario}, {plan.source.strategy}: {found.outcome.replace('_', ' ')}"
    return Table(title, ("metric", "forecast\nP50", "forecast\nP95", "the run", "known"), rows, note, left=(0, 4))


def as_json(found: Measured, forecast: Forecast | None) -> dict[str, Any]:
    """The same as one object."""
    return {
        "outcome": found.outcome,
        "metrics": {
            name: {
                "value": found.values[name],
                "known": found.known[name],
                "forecast": None if forecast is None or name not in forecast.metrics else forecast.metrics[name].model_dump(),
            }
            for name in METRICS
        },
    }
