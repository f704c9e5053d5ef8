"""The risk that was there before any plan: what the loss of one machine alone would do to the environment as it stands."""

from __future__ import annotations

from typing import NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.plan import Plan
from simdeploy.tables import listed


class StandingRisk(NamedTuple):
    """A machine without which the peak demand is not carried."""

    machine: str
    services: tuple[str, ...]
    """What runs on it."""
    capacity_per_s: float
    """What is left at the front door when it is lost and failover has settled."""


def standing_risks(env: Environment) -> list[StandingRisk]:
    """The machines whose loss alone leaves less than the peak demand, in the order of the list of machines.

    No plan is blamed for them: `single_fault_s` and vetting count only losses that the start state would have borne.
    """
    left = FactBook(Layout(Plan(environment=env, steps=()))).borne_losses()
    on: dict[str, list[str]] = {}
    for service, machine in env.instances.values():
        on.setdefault(machine, []).append(service)
    names = [m.name for m in env.machines if left.get(m.name, env.demand.peak_per_s) < env.demand.peak_per_s]
    return [StandingRisk(name, tuple(on[name]), left[name]) for name in names]


def standing_sentence(env: Environment) -> str:
    """What `standing_risks` finds, in one sentence."""
    peak, risks = f"{env.demand.peak_per_s:.4g} req/s", standing_risks(env)
    if not risks:
        return f"Accepted, since it was there before: nothing. The loss of any one machine leaves enough for {peak}."
    alike: dict[float, list[str]] = {}
    for risk in risks:
        alike.setdefault(risk.capacity_per_s, []).append(f"{risk.machine} ({', '.join(risk.services)})")
    losses = "; ".join(f"{listed(names, 'or')} leaves {left:.4g}" for left, names in alike.items())
    return f"Accepted, since it was there before: of a demand of up to {peak} the loss of {losses}."
