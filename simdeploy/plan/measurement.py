"""The metrics of a trace: a fold over its records, the same for a simulated run and a real one.

A Meter follows one run. What it leaves, a Run, is the path of the run through distinct states; `metrics_of`
turns many Runs into figures at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.environment.residuals import residual
from simdeploy.plan.exposure import Phases, risk
from simdeploy.plan.facts import Before, FactBook, Facts
from simdeploy.plan.layout import LEAD, Layout
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.plan import Plan
from simdeploy.plan.queueing import flow
from simdeploy.plan.state import State, StoreEvent

Floats = NDArray[np.float64]


class Run(NamedTuple):
    """What one run leaves to be measured."""

    times: list[float]
    """When each visited state began [s], rising."""
    states: list[int]
    """Where its facts stand in the plan's FactBook."""
    end_s: float
    """Where the integrals end."""
    makespan_s: float
    outcome: str
    failovers: int
    out_at_end: int
    steps_failed: int
    rollback_s: float
    forward_s: float
    validated_at_s: float | None
    store_events: list[StoreEvent]
    cut_requests: float
    reconcile_s: float


class Meter:
    """Follows one run: tell it what began and ended, and when an instant is over."""

    def __init__(self, layout: Layout, book: FactBook, demand_per_s: float, bad: frozenset[int]) -> None:
        self.state = State(layout, demand_per_s)
        self.steps_failed = 0
        self.makespan_s = 0.0
        self.bad = bad
        """The parts of the plan that bring a bad release: 0 the main section, k the k-th forward round."""
        self._layout = layout
        self._book = book
        self._signature = -1
        self._times: list[float] = []
        self._states: list[int] = []
        self._held: dict[int, float] = {}
        self._attempted: dict[int, float] = {}
        self._before: tuple[float, Before] | None = None
        self._latest: tuple[float, Before] | None = None
        if layout.draining:
            self._latest = (-1.0, self._snapshot(book.of(self.state, bad)))
        self._cut_requests = 0.0
        self._reconcile_s = 0.0
        self._running: dict[int, int] = {}
        self._left: tuple[str, float] | None = None
        """What the latest abort that did not halt led to, and when it was."""
        self._lost_s = {"rollback": 0.0, "forward": 0.0}

    def began(self, step: int, at_s: float) -> None:
        """The first attempt of a step begins."""
        layout = self._layout
        if operations := layout.begin[step]:
            self.state.apply(operations, at_s, at_s)
        if layout.lasting[step]:
            self._last(step, at_s)

    def ended(self, step: int, result: str, at_s: float) -> None:
        """A step that began has ended."""
        layout = self._layout
        self.makespan_s = at_s
        if layout.lasting[step]:
            self._last_no_more(step, result, at_s)
        if result == "succeeded":
            if operations := layout.end[step]:
                self.state.apply(operations, at_s, self.state.dated.get(step, at_s))
        else:
            self.failed(at_s)
            for what, s, leader in layout.begin[step]:
                if what == LEAD and leader is None:
                    self.state.hand_over_failed(s, at_s)

    def passed(self, step: int, at_s: float) -> None:
        """A step has ended without running, or was cut short by an abort."""
        self.makespan_s = at_s
        if self._layout.lasting[step] and step in self.state.dated:
            self._last_no_more(step, "skipped", at_s)

    def failed(self, at_s: float) -> None:
        """A step, judge or gate said no."""
        self.makespan_s = at_s
        self.steps_failed += 1

    def aborted(self, reaction: str, at_s: float) -> None:
        """A section is left for what *reaction* says; a halt leaves it for nothing else."""
        if reaction != "halt":
            self._count_lost(at_s)
            self._left = (reaction, at_s)

    def _count_lost(self, until_s: float) -> None:
        if self._left is not None:
            reaction, since_s = self._left
            self._lost_s[reaction] += until_s - since_s

    def serves_bad(self, observed: bool = False) -> bool:
        """Whether any instance serves a bad version; *observed*: one that a serving monitor has checks for."""
        return bool(self.bad) and self.state.serves(self._book.bad_versions(self.bad), observed)

    def instant_over(self, at_s: float) -> None:
        """Nothing more happens at *at_s*: what holds now holds for some time."""
        state = self.state
        if state.signature != self._signature:
            self._signature = state.signature
            facts = self._book.of(state, self.bad)
            if self._times and self._times[-1] == at_s:
                self._states[-1] = facts
            else:
                self._times.append(at_s)
                self._states.append(facts)
        if self._latest is not None:
            if at_s > self._latest[0]:
                self._before = self._latest
            self._latest = (at_s, self._snapshot(self._states[-1]))

    def close(self, outcome: str, end_s: float) -> Run:
        """The run, integrated to *end_s*."""
        self.state.close(end_s)
        self._count_lost(end_s if outcome == "stuck" else self.makespan_s)
        return self.run(outcome, end_s)

    @property
    def facts(self) -> int:
        """Where the facts of the latest state stand in the plan's FactBook."""
        return self._states[-1]

    def run(self, outcome: str, end_s: float) -> Run:
        """What there is of the run until *end_s*, of which no data are known to be lost yet."""
        state = self.state
        return Run(
            self._times, self._states, end_s, self.makespan_s, outcome, state.failovers, state.out_at_end(), self.steps_failed,
            self._lost_s["rollback"], self._lost_s["forward"], state.validated_at_s, state.store_events, self._cut_requests,
            self._reconcile_s,
        )  # fmt: skip

    def _last(self, step: int, at_s: float) -> None:
        """What a step does for as long as it runs begins: slowing, being watched or not, dating a recovery point."""
        self.state.dated[step] = at_s
        if (instance := self._layout.draining.get(step)) is not None:
            self._held[step] = self._book.held(instance, self._until(at_s))
            self._attempted[step] = at_s
        for i, factor in self._layout.slow[step]:
            self.state.slow(i, factor, begins=True)
        if self._layout.watches:
            self._count_running(step, 1)

    def _last_no_more(self, step: int, result: str, at_s: float) -> None:
        if step in self._held and result == "succeeded":
            self._cut_requests += self._cut(step, at_s)
        if step in self._layout.joins:
            self._reconcile_s += at_s - self.state.dated[step]
        for i, factor in self._layout.slow[step]:
            self.state.slow(i, factor, begins=False)
        if self._layout.watches:
            self._count_running(step, -1)

    def held(self, step: int) -> float:
        """How many requests the target of a drain that lasts until idle held when the step began."""
        return self._held[step]

    def attempted(self, step: int, at_s: float) -> None:
        """Another attempt of a drain that lasts until idle begins."""
        self._attempted[step] = at_s

    def _cut(self, step: int, at_s: float) -> float:
        """What the time-out cut of a drain that ends at *at_s*; 0 where its last request ended before."""
        timeout_s = self._layout.plan.steps[step].timeout_s or 0.0
        hold = self._layout.services[self._layout.service_of[self._layout.draining[step]]].hold
        if hold is None or self._held[step] <= 0 or at_s < self._attempted[step] + timeout_s:
            return 0.0
        return residual(hold).cut(self._held[step], timeout_s)

    def _snapshot(self, facts: int) -> Before:
        state = self.state
        return Before(facts, state.signature, state.codes.copy(), state.leaders.copy(), state.split.copy())

    def _until(self, at_s: float) -> Before:
        """The state that held until *at_s*."""
        assert self._latest is not None  # kept wherever a plan has such drains
        before = self._before if self._before is not None and self._latest[0] == at_s else self._latest
        return before[1]

    def _count_running(self, step: int, change: int) -> None:
        machine = self._layout.plan.environment.machine_index.get(self._layout.plan.steps[step].on)
        if machine is not None:
            old = self._running.get(machine, 0)
            self._running[machine] = old + change
            self.state.mark(("running", machine), old, old + change)


def metrics_of(plan: Plan, book: FactBook, runs: Sequence[Run], phases: Sequence[Mapping[str, Phases]]) -> dict[str, Floats]:
    """Every metric of every run: name -> one value per run (nan = it has none, e.g. a recovery that never came).

    *phases* says for each run where the periodic copies of each store stood at its start.
    """
    facts = np.array(book.facts, dtype=np.float64).reshape(-1, len(Facts._fields))
    counts = np.array([len(r.times) for r in runs])
    owner = np.repeat(np.arange(len(runs)), counts)
    states = np.array([s for r in runs for s in r.states], dtype=np.intp)
    times = np.array([t for r in runs for t in r.times])
    ends = np.array([r.end_s for r in runs])
    last = np.cumsum(counts) - 1
    following = np.append(times[1:], 0.0)
    following[last] = ends
    length = following - times
    capacity, demand, error_free, error_free_if_good, steady, *flags = facts[states].T

    def integral(rate: Floats) -> Floats:
        return np.bincount(owner, weights=np.where(length > 0, rate, 0.0) * length, minlength=len(runs)).astype(np.float64)

    def lowest(values: Floats) -> Floats:
        """The lowest of the values that lasted for some time, and of the last one."""
        counted = np.where(length > 0, values, np.inf)
        counted[last] = values[last]
        return np.minimum.reduceat(counted, last - counts + 1)

    asks = demand > 0
    served = np.minimum(demand * error_free, capacity)
    short = asks & (capacity < demand)
    with np.errstate(invalid="ignore", divide="ignore"):
        missing = np.where(capacity < steady, steady - capacity, 0.0)
        headroom = np.where(asks, (capacity - demand) / demand, np.inf)
    offered = integral(demand)
    if plan.environment.demand.excess == "lost":
        failed = integral(demand - served)
        spoilt = integral(np.minimum(demand * error_free_if_good, capacity) - served)
    else:
        failed = np.array([_queued_failures(plan, book, r) for r in runs])
        spoilt = integral(demand * (error_free_if_good - error_free))
    cut = np.array([r.cut_requests for r in runs])
    failed = failed + cut
    single, skewed, incompatible, blind, unchecked, unobserved, machines, divergent = flags
    fault_free = float(book.steady) or math.nan
    values = {
        "makespan_s": np.array([r.makespan_s for r in runs]),
        "downtime_s": integral((asks & (capacity <= 0)).astype(float)),
        "brownout_s": integral((short & (capacity > 0)).astype(float)),
        "failed_requests": failed,
        "cut_requests": cut,
        "bad_release_requests": spoilt,
        "availability": np.divide(np.maximum(offered - failed, 0.0), offered, out=np.full(len(runs), np.nan), where=offered > 0),
        "capacity_min": lowest(capacity),
        "capacity_end": capacity[last],
        "headroom_min": np.where(np.isinf(low := lowest(headroom)), np.nan, low),
        "lost_capacity": integral(missing),
        "single_fault_s": integral(single),
        "divergent_writes": integral(divergent),
        "reconcile_s": np.array([r.reconcile_s for r in runs]),
        "skew_s": integral(skewed),
        "incompatible_s": integral(incompatible),
        "blind_s": integral(blind),
        "unchecked_s": integral(unchecked),
        "unobserved_change_s": integral(unobserved),
        "machine_hours": integral(machines) / 3600,
        "rollback_s": np.array([r.rollback_s for r in runs]),
        "forward_s": np.array([r.forward_s for r in runs]),
        "failovers": np.array([float(r.failovers) for r in runs]),
        "out_at_end": np.array([float(r.out_at_end) for r in runs]),
        "steps_failed": np.array([float(r.steps_failed) for r in runs]),
        "rto_s": np.array([_recovery(plan, book, r) for r in runs]),
    }
    values["capacity_min_fraction"] = values["capacity_min"] / fault_free
    values["capacity_end_fraction"] = values["capacity_end"] / fault_free
    risks = np.array([_data(plan, book, r, p) for r, p in zip(runs, phases, strict=True)]).reshape(-1, 4)
    values["data_loss_s"], values["lost_writes"], values["added_exposure_s"], values["exposure_max_s"] = risks.T
    for outcome in OUTCOMES:
        values[outcome] = np.array([float(r.outcome == outcome) for r in runs])
    return {name: values[name] for name in METRICS}


def _queued_failures(plan: Plan, book: FactBook, run: Run) -> float:
    """Failed requests where the excess waits: those that met an error or left impatient; what still waits has not failed."""
    segments, failed = [], 0.0
    for start, end, where in zip(run.times, [*run.times[1:], run.end_s], run.states, strict=True):
        facts = book.facts[where]
        segments.append((end - start, facts.demand * facts.error_free, facts.capacity))
        failed += (end - start) * facts.demand * (1 - facts.error_free)
    return failed + flow(segments, plan.environment.demand.patience_s or 0.0).left


def _recovery(plan: Plan, book: FactBook, run: Run) -> float:
    """From the disaster to the first moment, not before `validated`, that capacity meets the demand; nan if never."""
    since = plan.disaster_at_s if plan.disaster_at_s is not None else 0.0 if not plan.start.live else None
    if since is None or run.validated_at_s is None:
        return math.nan
    for start, end, where in zip(run.times, [*run.times[1:], math.inf], run.states, strict=True):
        facts = book.facts[where]
        if end > run.validated_at_s and facts.capacity >= facts.demand > 0:
            return max(start, run.validated_at_s) - since
    return math.nan


def _data(plan: Plan, book: FactBook, run: Run, phases: Mapping[str, Phases]) -> tuple[float, float, float, float]:
    """(data_loss_s, lost_writes, added_exposure_s, exposure_max_s) of a run: the worst store's times, all stores' writes."""
    loss = writes = added = exposure = 0.0
    layout = book.layout
    for s, service in enumerate(layout.services):
        if service.store is None:
            continue
        events = [e for e in run.store_events if e.service == s]
        one = risk(service.store, events, layout.sites[s], run.end_s, phases[layout.service_names[s]], run.makespan_s)
        loss, added = max(loss, one.data_loss_s), max(added, one.added_exposure_s)
        exposure = max(exposure, one.exposure_max_s)
        counted_s = -math.inf
        for until_s, stopped_s in sorted(one.losses):
            if stopped_s > counted_s:  # what was lost before is not lost again
                writes += _writes(service.store.writes_per_s, run, book, max(until_s, counted_s), stopped_s)
                counted_s = stopped_s
    return loss, writes, added, exposure


def _writes(rate_per_s: float | None, run: Run, book: FactBook, since_s: float, until_s: float) -> float:
    """Writes acknowledged in (since, until]; before the plan's start the first state is taken to have lasted."""
    if rate_per_s == 0.0:
        return 0.0
    if rate_per_s is not None or math.isinf(until_s - since_s):
        return (rate_per_s if rate_per_s is not None else 1.0) * (until_s - since_s)
    total = 0.0
    for k, (start, end, where) in enumerate(zip(run.times, [*run.times[1:], run.end_s], run.states, strict=True)):
        facts = book.facts[where]
        overlap = min(end, until_s) - max(start if k else -math.inf, since_s)
        total += max(0.0, overlap) * min(facts.demand * facts.error_free, facts.capacity)
    return total
