"""An environment at a glance."""

from __future__ import annotations

from simdeploy.environment.models import Environment
from simdeploy.tables import Table


def tiers(env: Environment) -> Table:
    """One row per service of an environment."""
    rows = []
    for name, service in env.services.items():
        calls = ", ".join(f"{c} x{call.times:g}{'' if call.dependency == 'hard' else ' (soft)'}" for c, call in service.calls.items())
        capacity = f"{len(service.on)} x {service.capacity_per_s:g} req/s" if service.capacity_per_s is not None else "not limiting"
        leads = service.role in ("leader_elected", "datastore") or service.serves == "leader"
        serving = 1 if leads else len(service.on)
        door = f"{serving * service.capacity_per_s / env.visits[name]:.4g} req/s" if service.capacity_per_s and env.visits[name] else "-"
        rows.append((name, service.role, ", ".join(service.on), capacity, door, calls or "-"))
    marks = [i.mark for i in env.inputs]
    note = f"demand up to {env.demand.peak_per_s:g} req/s; {marks.count('assumed')} numbers assumed, {marks.count('measured')} measured"
    return Table(f"{env.name} ({env.kind})", ("service", "role", "on", "capacity", "at the door", "calls"), rows, note, left=(0, 1, 2, 5))
