"""The steps of a plan as they are collected: recipes become steps, in plan order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from simdeploy.environment.durations import ZERO
from simdeploy.environment.models import Action, Environment, Machine
from simdeploy.plan.steps import Of, Section, Step
from simdeploy.planning.partition import Partition
from simdeploy.planning.validation import Check, Checkpoint, Place, checkpoint_steps

HOSTING = "hosting"
"""The pool of those who make machines, where they are limited."""
TAKE = "take"
"""What is done with a machine that stands by, where another one is allocated."""


class Lane(NamedTuple):
    """The steps of one instance, and what must be known to take them back."""

    instance: str
    partition: Partition
    steps: list[Step]
    patch: bool = False
    heir: str | None = None
    """Who took the lead over."""
    new: str | None = None
    """The instance on a new machine that takes its place."""


class Batch(NamedTuple):
    """Lanes that go together."""

    stage: int
    label: str
    lanes: list[Lane]


class Failures(NamedTuple):
    """When a judge aborts: strictly more failures than the limit."""

    limit: int | Fraction = 0
    of: Of = "batch"


class Rules(NamedTuple):
    """What a strategy says of failures and of checks."""

    failures: Failures = Failures()
    checkpoints: Sequence[Checkpoint] = ()
    checks: Mapping[str, Check] = {}
    instances: int = 1
    """Planned instances of the whole plan: what a percentage of the plan's failures refers to."""


class Builder:
    """Collects the steps of one plan, and the new machines that they need."""

    def __init__(self, env: Environment, versions: Mapping[str, str], forks: int | None, rules: Rules) -> None:
        self.env = env
        self.versions = versions
        """Service -> the version that lanes bring: the new one, in a rollback the old one; of a datastore, its schema."""
        self.new = dict(versions)
        self.pools: dict[str, int] = {"forks": forks} if forks else {}
        """Pool -> its units; every step of a recipe holds one of the forks where they are limited."""
        self.rules = rules
        self.section: Section = "main"
        self.round = 0
        """Of the section forward: which round is collected."""
        self.stage = 0
        self.steps: list[Step] = []
        self.batches: list[Batch] = []
        """What has gone out together so far in this section, in the order in which it went."""
        self.leaders: dict[str, str] = {}
        """Service -> who leads it when what is collected so far has been done, where that is known."""
        self._looked: dict[tuple[str, str], int] = {}
        self.patched: set[str] = set()
        """Machines whose operating system a lane patches already."""
        self.absent: list[str] = []
        """Instances on new machines: not there when the plan starts."""

    def add(self, *steps: Step) -> None:
        """Take *steps* in, in this order, as steps of the present section."""
        section: dict[str, Any] = {"section": self.section} | ({"round": self.round} if self.section == "forward" else {})
        self.steps += steps if self.section == "main" else [step.model_copy(update=section) for step in steps]

    def add_lanes(self, lanes: Iterable[Sequence[Step]]) -> None:
        """Take the steps of *lanes* in; one that is about several instances is a lane all the same."""
        for steps in lanes:
            several = len({step.target for step in steps}) > 1
            self.add(*([step.model_copy(update={"lane": steps[0].id}) for step in steps] if several else steps))

    def one_lane(self, first: int) -> None:
        """Make all steps from the position *first* on one lane: a store with its writers, none of which comes back by itself."""
        name = self.steps[first].id if self.steps[first:] else ""
        self.steps[first:] = [step.model_copy(update={"lane": name}) for step in self.steps[first:]]

    def fix_versions(self, k: int) -> None:
        """From here on the new versions are those of the k-th fix; what goes with a version goes with its fixes."""
        fixed = {name: f"{version.partition('+fix')[0]}+fix{k}" for name, version in self.versions.items()}
        services = dict(self.env.services)
        for name, service in services.items():
            accepts = {
                version: {
                    callee: (*known, *([fixed[callee]] if self.versions.get(callee) in known and callee in fixed else []))
                    for callee, known in callees.items()
                }
                for version, callees in service.accepts.items()
            }
            if self.versions.get(name) in accepts:
                accepts[fixed[name]] = accepts[self.versions[name]]
            services[name] = service.model_copy(update={"accepts": accepts})
        self.env = self.env.model_copy(update={"services": services})
        stores = {name for name, service in services.items() if service.role == "datastore"}
        self.versions = {name: version if name in stores else fixed[name] for name, version in self.versions.items()}

    def phase(self, name: str) -> str:
        """The first part of a step's id: *name*, or the section where that is not the main one."""
        return name if self.section == "main" else f"{self.section}{self.round or ''}"

    def validated(self, places: Sequence[Place], label: str, after: tuple[str, ...]) -> tuple[str, ...]:
        """Add the checkpoints at any of *places*; what comes next comes after all their gates, or *after* without any."""
        gates: list[Step] = []
        for point in self.rules.checkpoints:
            if point.after in places:
                phase = self.phase("validate")
                number = self._looked[phase, label] = self._looked.get((phase, label), 0) + 1
                gates += checkpoint_steps(point, self.rules.checks, label, number, phase, self.round, after)
        self.add(*gates)
        return tuple(s.id for s in gates if s.kind == "gate") or after

    def leader(self, service: str) -> str:
        """Who leads *service* at the start, as the state will see it."""
        return self.env.leader_of(service)

    def new_machines(self, instances: Sequence[str]) -> dict[str, str]:
        """For each of *instances* one like it on a new machine beside its own, in the same cell, absent until a step allocates it.

        Those that share a machine share the new one.
        """
        beside: dict[str, str] = {}
        taken = {m.name for m in self.env.machines}
        for _, machine in (self.env.instances[i] for i in instances):
            if machine not in beside:
                name = f"{machine[:59]}-new"
                while name in taken:
                    name = f"n{name[:62]}"
                taken.add(name)
                beside[machine] = name
        names = [beside[self.env.instances[i][1]] for i in instances]
        return dict(zip(instances, self.add_machines([*zip(instances, names, strict=True)]), strict=True))

    def add_machines(self, wanted: Sequence[tuple[str, str]]) -> list[str]:
        """For each (instance, name) one like it on a new machine of that name, in the same cell, absent until a step allocates it.

        What has the same name shares a machine.
        """
        machines, services, cells = list(self.env.machines), dict(self.env.services), dict(self.env.cells)
        made: list[str] = []
        added: set[str] = set()
        for instance, name in wanted:
            service, machine = self.env.instances[instance]
            services[service] = services[service].model_copy(update={"on": (*services[service].on, name)})
            made.append(f"{service}@{name}")
            if name in added:
                continue
            added.add(name)
            machines.append(self.env.machines[self.env.machine_index[machine]].model_copy(update={"name": name}))
            if machine in self.env.cell_of:
                cell = self.env.cell_of[machine]
                cells[cell] = cells[cell].model_copy(update={"on": (*cells[cell].on, name)})
        self.env = self.env.model_copy(update={"machines": tuple(machines), "services": services, "cells": cells})
        self.absent += made
        return made

    def stand_by(self, spares: int) -> tuple[str, ...]:
        """The machines of so many spares: those that the steps take, and further ones on which nothing ever runs."""
        found = [self.env.instances[step.target][1] for step in self.steps if step.action == TAKE]
        known, machines = set(self.env.machine_index), list(self.env.machines)
        for k in range(len(found), spares):
            name = f"spare{k + 1}"
            while name in known:
                name = f"n{name}"
            known.add(name)
            found.append(name)
            machines.append(Machine(name=name))
        self.env = self.env.model_copy(update={"machines": tuple(machines)})
        return tuple(found)

    def recipe_step(
        self, step_id: str, recipe: Action, target: str, machine: str, slowed: str | None = None, undo: bool = False, **fields: Any
    ) -> Step:
        """A step after its recipe, or after the recipe's undo; a hosted machine's own actions run from the operator's desk."""
        service = target.split("@")[0]
        version = (self.new if undo else self.versions).get(service, self.env.services[service].version)
        previous = self.env.services[service].version
        words = {"machine": machine, "service": service, "version": version, "previous": previous}
        hosted = self.env.machines[self.env.machine_index[machine]].hosted
        return Step(
            id=step_id,
            target=target,
            on=recipe.on or ("" if hosted else machine),
            duration=recipe.duration or ZERO,
            until_idle=recipe.until_idle,
            pools=(("forks", 1),) if "forks" in self.pools else (),
            p_fail=recipe.p_fail,
            retries=recipe.retries,
            retry_delay=recipe.retry_delay,
            timeout_s=recipe.timeout_s,
            slow=((slowed or target, recipe.capacity_left),) if recipe.capacity_left < 1 else (),
            run=_filled(recipe.undo if undo else recipe.command, words),
            check=_filled(recipe.undo_check if undo else recipe.check, words),
            retry=recipe.retry,
            artefact=None if undo or self.section == "rollback" else recipe.artefact,
            secrets=recipe.secrets,
            **fields,
        )


def _filled(argv: tuple[str, ...], words: dict[str, str]) -> tuple[str, ...]:
    """*argv* with {machine}, {service}, {version} and {previous} filled in, each inside its own argument."""
    filled = []
    for argument in argv:
        for word, value in words.items():
            argument = argument.replace(f"{{{word}}}", value)
        filled.append(argument)
    return tuple(filled)
