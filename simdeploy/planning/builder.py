"""The steps of a plan as they are collected: recipes become steps, in plan order."""

from __future__ import annotations

from typing import Any

from simdeploy.environment.models import Action, Environment, Machine
from simdeploy.plan.steps import Step


class Builder:
    """Collects the steps of one plan, and the new machines that they need."""

    def __init__(self, env: Environment, versions: dict[str, str], forks: int | None) -> None:
        self.env = env
        self.versions = versions
        """Service -> its new version; of a datastore, its new schema."""
        self.forks = forks
        self.steps: list[Step] = []
        self.patched: set[str] = set()
        """Machines whose operating system a lane patches already."""
        self.absent: list[str] = []
        """Instances on new machines: not there when the plan starts."""

    def add(self, *steps: Step) -> None:
        """Take *steps* in, in this order."""
        self.steps += steps

    def leader(self, service: str) -> str:
        """Who leads *service* at the start, as the state will see it."""
        stated = self.env.services[service].leader
        return f"{service}@{stated}" if stated else self.env.members(service)[0]

    def new_machine(self, instance: str) -> str:
        """An instance like *instance* on a new machine beside its own, absent until a step allocates it."""
        service, machine = self.env.instances[instance]
        old = self.env.machines[self.env.machine_index[machine]]
        name = f"{machine}-new"[-63:].lstrip("._-")
        while name in self.env.machine_index:
            name = f"n{name}"[:63]
        services = dict(self.env.services)
        services[service] = services[service].model_copy(update={"on": (*services[service].on, name)})
        made = Machine(name=name, zone=old.zone, update_domain=old.update_domain, hosted=old.hosted)
        self.env = self.env.model_copy(update={"machines": (*self.env.machines, made), "services": services})
        self.absent.append(f"{service}@{name}")
        return self.absent[-1]

    def recipe_step(self, step_id: str, recipe: Action, target: str, machine: str, slowed: str | None = None, **fields: Any) -> Step:
        """A step after its recipe; a hosted machine's own actions run from the operator's desk."""
        service = target.split("@")[0]
        version = self.versions.get(service, self.env.services[service].version)
        words = {"machine": machine, "service": service, "version": version}
        hosted = self.env.machines[self.env.machine_index[machine]].hosted
        return Step(
            id=step_id,
            target=target,
            on=recipe.on or ("" if hosted else machine),
            duration=recipe.duration,
            pools=(("forks", 1),) if self.forks else (),
            p_fail=recipe.p_fail,
            retries=recipe.retries,
            retry_delay=recipe.retry_delay,
            timeout_s=recipe.timeout_s,
            slow=((slowed or target, recipe.capacity_left),) if recipe.capacity_left < 1 else (),
            run=_filled(recipe.command, words),
            check=_filled(recipe.check, words),
            **fields,
        )


def _filled(argv: tuple[str, ...], words: dict[str, str]) -> tuple[str, ...]:
    """*argv* with {machine}, {service} and {version} filled in, each inside its own argument."""
    filled = []
    for argument in argv:
        for word, value in words.items():
            argument = argument.replace(f"{{{word}}}", value)
        filled.append(argument)
    return tuple(filled)
