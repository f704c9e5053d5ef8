"""Validation: what is checked where, how well each check tells a bad release, and what is done when one says no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from simdeploy.environment.base import Frozen
from simdeploy.environment.durations import ZERO, Distribution, Duration
from simdeploy.environment.models import Argv
from simdeploy.environment.names import Name, did_you_mean, in_short
from simdeploy.errors import Problem
from simdeploy.plan.steps import Gate, Reaction, Step, Subject
from simdeploy.planning.batches import at_work, cut
from simdeploy.planning.slices import cut_slices
from simdeploy.units import Fraction, Seconds

if TYPE_CHECKING:
    from simdeploy.planning.scenario import Strategy, Upgrade

Place = Literal["canary", "batch", "tier", "code", "end"]
"""canary: after the first of several batches of a tier; batch: after each; tier: after the last one of each tier;
code: when all code is new, before a schema contracts; end: after everything."""


class Check(Frozen):
    """One look at the release: how long it takes and how well it tells a bad one from a good one."""

    of: Subject = "primary"
    """The scenarios that the release brings, those that it must not break, the few that matter most, or what monitoring
    saw: that finds nothing while no monitor has checks for a bad version that serves."""
    duration: Duration = ZERO
    """How long the look takes."""
    sensitivity: Fraction = 1.0
    """Chance that it finds a bad release that serves anywhere."""
    false_alarms: Fraction = 0.0
    """Chance that it takes a good release, or one that does not serve yet, for bad."""
    command: Argv = ()
    """The words of the command that looks, without a shell; it exits 0 for good. Without one a person looks."""


class Checkpoint(Frozen):
    """Where the release is checked, and what is done when a check says no."""

    after: Place
    """Where in the plan."""
    checks: tuple[Name, ...] = Field(min_length=1)
    """Those of the scenario's checks that are made side by side; any of them may say no."""
    bake_s: Seconds = Field(default=0.0, alias="bake")
    """How long the release serves before they look."""
    on_bad: Reaction = "rollback"
    """rollback: back to the old version; forward: a fix, the same batches again, the checks again; halt: stop and page."""
    rounds: int = Field(default=1, ge=1, le=9)
    """Of on_bad: forward: how many fixes are tried."""
    then: Literal["rollback", "halt"] = "rollback"
    """Of on_bad: forward: what is done when the last fix is found bad as well."""

    def reaction(self, round_: int) -> Reaction:
        """What a check that says no does in the main section (0) or in a forward round."""
        return self.then if self.on_bad == "forward" and round_ >= self.rounds else self.on_bad


def places(k: int, batches: int) -> list[Place]:
    """The places in a plan that are reached after the k-th of so many batches."""
    found: list[Place] = ["batch"]
    return found + (["canary"] if k == 1 < batches else []) + (["tier"] if k == batches else [])


def reached(scenario: Upgrade, strategy: Strategy) -> set[Place]:
    """The places to which the plan of *strategy* comes at least once.

    Raises PlanError where one of its partitions cannot be cut.
    """
    env, done = scenario.environment, set[str]()
    counts: list[int] = []

    def count(batches: Sequence[tuple[str, ...]]) -> None:
        counts.append(len(at_work(batches, env, scenario.patch, scenario.to, done)))
        done.update(env.instances[i][1] for batch in batches for i in batch if env.instances[i][0] in scenario.patch)

    for service in (s for stage in scenario.stages(strategy) for s in stage):
        partition = scenario.partition(strategy, service)
        if partition.blue_green or partition.migration == "offline":
            counts.append(1)
        elif partition.migration is None:
            count(cut(partition, env.members(service), env))
    if strategy.slices is not None:
        count(cut_slices(strategy.slices, scenario.sliced(strategy), env))
    return {"code", "end", *(place for n in counts for k in range(1, min(n, 2) + 1) for place in places(k, min(n, 2)))}


def unreached_problems(scenario: Upgrade, strategy: Strategy) -> list[Problem]:
    """The checkpoints at which nothing would ever be checked; paths begin at their list. Raises PlanError as `reached` does."""
    there = reached(scenario, strategy) if strategy.checkpoints else set()
    found = []
    for i, point in enumerate(strategy.checkpoints):
        if point.after not in there:
            if point.after == "canary" and "batch" in there:
                why = "no service goes in more than one batch, nor do slices: there is no first of several, and nothing would be checked"
                way_out = "cut one, for example with batches: canary, or check after: batch, tier or code"
            else:
                why = "nothing goes in batches here (a schema that migrates does not), so nothing would be checked"
                way_out = "check after: code or end"
            found.append(Problem((i, "after"), f"after {point.after!r}: {why}; {way_out}"))
    return found


def blind_problems(scenario: Upgrade) -> list[Problem]:
    """The checks that ask monitoring for a bad release that no monitor would see; paths begin at the checks."""
    env = scenario.environment
    monitors = {name: s for name, s in env.services.items() if s.role == "monitoring"}
    new = [name for name in scenario.to if env.services[name].role != "datastore"]
    if not monitors:
        why, way_out = "no service here has role: monitoring", "add one"
    elif new and not any(name != own and m.observes_service(name) for own, m in monitors.items() for name in new):
        why = f"no monitor observes any of {in_short(new)}, which get new versions, and of itself none is a judge"
        way_out = "name one under its 'observes'"
    else:
        return []
    return [Problem((n, "of"), f"{why}, so {n!r} would find nothing; {way_out}, or look at new, old or primary") for n in _asking(scenario)]


def blind_warnings(scenario: Upgrade) -> list[str]:
    """A sentence for each check that asks monitoring, where no monitor has checks for any of the new versions."""
    env = scenario.environment
    new = [name for name in scenario.to if env.services[name].role != "datastore"]
    monitors = [(name, s, v) for name, s in env.services.items() if s.role == "monitoring" for v in (s.version, scenario.to.get(name))]
    if not new or any(own != n and v is not None and m.has_checks(v, n, scenario.to[n]) for own, m, v in monitors for n in new):
        return []
    why = f"no monitor has checks for the new version of any of {in_short(new)}, so it finds no bad release"
    return [f"check {n!r} asks monitoring, and {why}; add them under 'accepts', or look at new, old or primary" for n in _asking(scenario)]


def _asking(scenario: Upgrade) -> list[str]:
    return [name for name, check in scenario.checks.items() if check.of == "monitoring"]


def checkpoint_problems(points: Sequence[Checkpoint], known: Mapping[str, Check]) -> list[Problem]:
    """Every rule that *points* break; paths begin at their list."""
    found: list[Problem] = []
    for i, point in enumerate(points):
        for j, name in enumerate(point.checks):
            if name not in known:
                way_out = did_you_mean(name, list(known)) if known else "describe it under the scenario's 'checks'"
                found.append(Problem((i, "checks", j), f"{name!r} is no check; {way_out}"))
            elif name in point.checks[:j]:
                way_out = "keep one, or make it at another checkpoint"
                found.append(Problem((i, "checks", j), f"{name!r} is made twice here; {way_out}"))
        odd = [key for key in ("rounds", "then") if point.on_bad != "forward" and key in point.model_fields_set]
        found += [Problem((i, key), f"{key!r} belongs to on_bad: forward, here it is {point.on_bad}; drop {key!r}") for key in odd]
    return found


def checkpoint_steps(
    point: Checkpoint, checks: Mapping[str, Check], label: str, number: int, phase: str, round_: int, after: tuple[str, ...]
) -> list[Step]:
    """The bake, if any, and the gates of one checkpoint that come *after* these steps; its *number* makes the ids unique."""
    steps: list[Step] = []
    if point.bake_s:
        bake = Distribution(kind="fixed", parameters=(point.bake_s,))
        steps.append(Step(id=f"{phase}/{label}/bake#{number}", after=after, duration=bake, awaited=False))
        after = (steps[0].id,)
    for name in point.checks:
        check = checks[name]
        errs = {"sensitivity": check.sensitivity, "false_alarms": check.false_alarms}
        gate = Gate(of=check.of, **errs, reaction=point.reaction(round_))
        end = (("validated",),) if point.after == "end" else ()
        what = {"id": f"{phase}/{label}/{name}#{number}", "duration": check.duration, "run": check.command}
        steps.append(Step(kind="gate", after=after, gate=gate, awaited=False, end=end, **what))
    return steps
