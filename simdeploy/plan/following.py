"""A trace, followed record by record: the state that holds, and the metrics of what has happened; simulated and real alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from simdeploy.plan.exposure import Phases
from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.measurement import Meter, metrics_of
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.state import State, Timer
from simdeploy.plan.steps import MAIN
from simdeploy.plan.trace import GONE, Record, Trace


class Following:
    """The records of one run of a plan in the order of time, folded as they come."""

    def __init__(self, plan: Plan, bad: frozenset[int] = frozenset()) -> None:
        self._plan = plan
        self._layout = Layout(plan)
        self._book = FactBook(self._layout)
        demand_per_s = plan.environment.demand.levels(0.0, plan.start.starts_at_s)[0][1]
        self._meter = Meter(self._layout, self._book, demand_per_s, bad)
        self._now = 0.0

    @property
    def state(self) -> State:
        """The state that now holds."""
        return self._meter.state

    def tell(self, record: Record) -> None:
        """The next thing that happened."""
        if record.at_s > self._now:
            self._meter.instant_over(self._now)
            self._now = record.at_s
        self._fold(record)

    def timers(self) -> list[tuple[float, Timer, str]]:
        """What the world will now do by itself: (in how many seconds in the mean, which timer, of whom); each is said once."""
        started, self._meter.state.timers[:] = self._meter.state.timers.copy(), []
        return [(self._mean_s(timer), timer, self._subject(timer)) for timer in started]

    def is_valid(self, timer: Timer) -> bool:
        """Whether nothing has happened since that takes back what the timer will do."""
        state, subject = self._meter.state, timer.subject
        term = {"expired": state.lease, "elected": state.vote}.get(timer.kind, state.term)
        return term(subject) == timer.term

    def capacity_per_s(self) -> float:
        """Capacity of the front door in the state that now holds [req/s]."""
        self._meter.instant_over(self._now)
        return float(self._book.facts[self._meter.facts].capacity)

    def so_far(self, now_s: float) -> dict[str, float]:
        """The metrics of what has happened until *now_s*; of data only what is at risk. nan = it has none."""
        self._meter.instant_over(self._now)
        run = self._meter.run("stuck", now_s)._replace(makespan_s=now_s)
        return {name: float(value[0]) for name, value in metrics_of(self._plan, self._book, [run], [self._phases()]).items()}

    def metrics(self, outcome: str, end_s: float, phases: Mapping[str, Phases] | None = None) -> dict[str, float]:
        """The metrics of the whole run, integrated to *end_s*. nan = it has none."""
        self._meter.instant_over(self._now)
        run = self._meter.close(outcome, max(end_s, self._now))
        values = metrics_of(self._plan, self._book, [run], [{**self._phases(), **(phases or {})}])
        return {name: float(value[0]) for name, value in values.items()}

    def _phases(self) -> dict[str, Phases]:
        starts_at_s = self._plan.start.starts_at_s
        return {n: Phases(0.0, 0.0, starts_at_s) for n, s in self._plan.environment.services.items() if s.store is not None}

    def _subject(self, timer: Timer) -> str:
        names = self._layout.service_names if timer.kind in ("elected", "expired") else self._layout.instances
        return names[timer.subject]

    def _mean_s(self, timer: Timer) -> float:
        """The mean of what the engine draws for a timer."""
        if timer.kind in ("elected", "expired"):
            election = self._layout.services[timer.subject].election
            return election.detect_s if timer.kind == "expired" else election.elect_s + election.detect_s * timer.unseen
        check = self._layout.services[self._layout.service_of[timer.subject]].health_check
        assert check is not None  # only a checked instance starts such a timer
        needed = check.rise if timer.kind == "risen" else check.fall
        return (needed - 0.5) * check.interval_s + check.timeout_s * timer.unseen

    def _fold(self, record: Record) -> None:
        at_s, kind, subject, value = record
        meter, layout, state, steps = self._meter, self._layout, self._meter.state, self._plan.wiring.position
        if kind == "began":
            meter.began(steps[subject], at_s)
        elif kind == "again":
            meter.attempted(steps[subject], at_s)
        elif kind == "ended":
            if value in ("skipped", "not_needed"):
                meter.passed(steps[subject], at_s)
            elif self._plan.steps[steps[subject]].kind == "judge":
                meter.failed(at_s) if value == "failed" else None
            else:
                meter.ended(steps[subject], str(value), at_s)
        elif kind == "aborted":
            meter.aborted(str(value), at_s)
        elif kind in ("noticed", "risen"):
            i = layout.index[subject]
            state.noticed(i, state.term(i)) if kind == "noticed" else state.risen(i, state.term(i), at_s)
        elif kind == "elected":
            s = layout.service_index[subject]
            state.elected(s, state.vote(s), at_s)
        elif kind == "expired":
            s = layout.service_index[subject]
            state.expired(s, state.lease(s))
        elif kind == "corrupted":
            state.corrupted(layout.service_index[subject], at_s)
        elif kind == "crashed":
            state.crashed(self._plan.environment.machine_index[subject], at_s, value != GONE)
        elif kind == "repaired":
            state.repaired(self._plan.environment.machine_index[subject], at_s)
        elif kind == "demand":
            state.demanded(float(value))


class Measured(NamedTuple):
    """The metrics of one trace; of each whether it was observed or had to be inferred from the steps."""

    values: dict[str, float | None]
    known: dict[str, Literal["observed", "inferred", "not observed"]]
    outcome: str


def measure(plan: Plan, trace: Trace, phases: Mapping[str, Phases] | None = None) -> Measured:
    """The metrics of one *trace* of *plan*.

    A simulation knows everything; of a real run the metrics that users notice are known only from samples, and
    are `inferred` here. Without *phases* the periodic copies that do not say when they begin are taken to begin a cycle.
    """
    following = Following(plan, frozenset(int(r.value or MAIN) for r in trace.records if r.kind == "bad_release"))
    for record in trace.records:
        following.tell(record)
    values = following.metrics(trace.outcome, trace.end_s, phases)
    real = trace.source == "journal"
    return Measured(
        {n: None if math.isnan(v) else v for n, v in values.items()},
        {n: "inferred" if real and m.sampled else "observed" for n, m in METRICS.items()},
        trace.outcome,
    )
