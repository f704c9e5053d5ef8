"""What an invariant is asked about: one part of a plan from one state on, and how its answer is written down."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import cached_property

from simdeploy.plan.findings import Finding, Severity, Witness
from simdeploy.plan.goals import OPERATORS
from simdeploy.plan.plan import Plan
from simdeploy.tables import listed
from simdeploy.vetting.capacity import front_door
from simdeploy.vetting.closure import below
from simdeploy.vetting.floors import Floors, Low
from simdeploy.vetting.section import SERVING, Condition, Section
from simdeploy.vetting.shape import Event, Shape


class Wanted:
    """What a plan has to keep: its demand, its goals, and what its start state kept."""

    def __init__(self, shape: Shape) -> None:
        self.plan = shape.plan
        serving = {i: Condition(SERVING, "") for i in range(len(shape.instances))}
        self.rest = Floors(Section(shape, starts=None if self.plan.start.live else serving, active=()))
        """The environment before the plan does anything; of a fresh deployment, as it is to be."""
        self.rest.forced.clear()

    @cached_property
    def capacity_per_s(self) -> float:
        """What the front door has to carry: the goal on the lowest capacity, else the peak demand; never more than at the start."""
        steady = self.plan.steady_capacity_per_s or self.carried_before_per_s
        bounds = [g.value for g in self.plan.goals if g.metric == "capacity_min" and g.comparison in (">=", ">")]
        bounds += [g.value * steady for g in self.plan.goals if g.metric == "capacity_min_fraction" and g.comparison in (">=", ">")]
        wanted = max(bounds) if bounds else self.plan.environment.demand.peak_per_s
        return min(wanted, self.carried_before_per_s)

    @cached_property
    def carried_before_per_s(self) -> float:
        """What the front door carries when the plan begins, the disaster that it answers counted."""
        told = self.plan.disaster_at_s is not None and not self.rest.section.lost_before  # by the steps themselves
        wrong = bool(self.plan.corruptions)  # what serves something wrong serves nothing
        return 0.0 if told or wrong else front_door(self.rest).least_per_s

    @property
    def source(self) -> str:
        """Where the wanted capacity comes from, in words."""
        if any(g.metric.startswith("capacity_min") for g in self.plan.goals):
            return "the goal asks for"
        return "the peak demand is" if self.capacity_per_s == self.plan.environment.demand.peak_per_s else "the start state carries"

    def forbids(self, *metrics: str) -> bool:
        """Whether a goal allows nothing of any of these metrics at all."""
        return any(g.metric in metrics and g.comparison in ("<=", "<") and g.value <= 0 for g in self.plan.goals)

    def allows(self, metric: str) -> bool:
        """Whether a goal allows some of this metric: then it is known, and there is no need to find it."""
        return any(g.metric == metric and g.comparison in ("<=", "<") and g.value > 0 for g in self.plan.goals)

    @property
    def forbids_outages(self) -> bool:
        """Whether a goal allows no moment without capacity."""
        asks = any(g.metric.startswith("capacity_min") and g.comparison in (">=", ">") and g.value > 0 for g in self.plan.goals)
        return asks or self.forbids("downtime_s")

    def fewest(self, metric: str) -> float | None:
        """The least bound that a goal sets to *metric* from above; None without one."""
        bounds = [g.value for g in self.plan.goals if g.metric == metric and OPERATORS[g.comparison](0.0, 1.0)]
        return min(bounds, default=None)


class Case:
    """One section of a plan from one state on."""

    def __init__(
        self, section: Section, wanted: Wanted, after: tuple[str, ...] = (), about: str = "", alike: dict[object, Low] | None = None
    ) -> None:
        self.section, self.wanted = section, wanted
        self.after = after
        """In a rollback: the last main steps that had ended when it began."""
        self.about = about
        """In a rollback: from where, in words."""
        self.floors = Floors(section, alike)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.section.plan

    @property
    def shape(self) -> Shape:
        """The plan's order."""
        return self.section.shape

    @property
    def is_main(self) -> bool:
        """Whether it is the main section, from the plan's start."""
        return not self.about

    def ids(self, classes: Iterable[int]) -> list[str]:
        """The steps of these classes, in plan order."""
        return [self.plan.steps[k].id for k in sorted(k for c in classes for k in self.shape.members[c] if self.section.is_in(k))]

    def witness(self, events: Collection[Event], lost: Iterable[str] = (), failed: Iterable[str] = ()) -> Witness:
        """The state that the *events* lead to, with all that must have happened before."""
        state = below(self.shape.just_before, events)
        ended = {e >> 1 for e in state if e & 1}
        running = {e >> 1 for e in state} - ended
        passed = {u for c in {e >> 1 for e in state} for u in self.shape.before[c]}
        index = self.shape.instances
        standing: dict[str, str] = {}
        for life in self.section.lives:
            now = [s for s in life.spells if s.since is None or s.since in state][-1]
            first = life.spells[0]
            slowed = math.prod(w.left for w in life.slowings if w.since in state and w.until not in state) if now.serves else 1.0
            if now.condition != first.condition or slowed < 1:
                version = f", version {now.condition.version}" if now.condition.version != first.condition.version else ""
                share = f", {100 * now.share * slowed:.0f} % of its capacity" if now.serves and now.share * slowed < 1 else ""
                standing |= {index[i]: f"{now.condition.mode}{version}{share}" for i in life.like}
        return Witness(
            ended=tuple(self.ids(ended - passed)), running=tuple(self.ids(running)), failed=tuple(failed), lost=tuple(lost),
            rolled_back_after=self.after, state=standing,
        )  # fmt: skip

    def finding(self, severity: Severity, invariant: str, subject: str, message: str, cure: str, witness: Witness | None = None) -> Finding:
        """A finding of this case."""
        where = f"{self.about}: " if self.about else ""
        name = f"{invariant}/{subject}" if not self.about else f"rollback-{invariant}/{subject}"
        return Finding(
            id=name, severity=severity, invariant=invariant, subject=subject, message=where + message, cure=cure, witness=witness
        )


def in_state(case: Case, events: Collection[Event], service: str) -> list[int]:
    """The instances of *service* that do not serve in the state that *events* lead to, and did when the section began."""
    state = below(case.shape.just_before, events)
    out: list[int] = []
    for life in case.section.lives:
        if life.service == service and life.spells[0].serves:
            now = [s for s in life.spells if s.since is None or s.since in state][-1]
            out += life.like if not now.serves else ()
    return sorted(out)


def named(case: Case, instances: Iterable[int]) -> str:
    """Instances for a sentence, a few of them by name."""
    return listed([case.shape.instances[i] for i in instances], most=4)
