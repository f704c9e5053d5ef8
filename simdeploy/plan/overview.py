"""A plan at a glance, and how the values of metrics are written."""

from __future__ import annotations

import math
from collections.abc import Mapping

import networkx as nx

from simdeploy.plan.findings import Finding, Floor, Vetting, Witness
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.tables import Table, listed
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
    return Table(
        verdict(vetting), ("", "finding", "what is wrong, and what would mend it"), rows, "\n".join(vetting.accepted), left=(0, 1, 2)
    )


def one_finding(one: Finding) -> Table:
    """A finding as a table: what is wrong, what would mend it, and the state that shows it."""
    rows = [("what is wrong", one.message), ("cure", one.cure), *(shown(one.witness) if one.witness else ())]
    return Table(f"{one.severity} {one.id}", ("", ""), rows, left=(0, 1))


def finding(one: Finding, plan: Plan) -> str:
    """A finding in words, with the state of the environment that shows it."""
    lines = [f"{one.severity} {one.id}: {one.message}", f"  cure: {one.cure}"]
    if one.witness is not None:
        lines += [f"  {label}: {said}" for label, said in shown(one.witness) if label != "then"]
        if one.witness.state or one.witness.lost:
            lines += ["  then:", *(f"    {line}" for line in drawn(plan, one.witness))]
    return "\n".join(lines)


def shown(witness: Witness) -> list[tuple[str, str]]:
    """The state that shows a finding: (what, which), row by row."""
    parts = (("lost", witness.lost), ("failed", witness.failed), ("running", witness.running), ("ended", witness.ended))
    rows = [(label, listed(steps, most=4)) for label, steps in parts if steps]
    standing: dict[str, list[str]] = {}
    for instance, how in witness.state.items():
        standing.setdefault(how, []).append(instance)
    if standing:
        rows.append(("then", "; ".join(f"{listed(names, most=4)} {how}" for how, names in standing.items())))
    return rows


def drawn(plan: Plan, witness: Witness) -> list[str]:
    """The state of the environment in a witness, a line for each service as calls go: what is as at the start, what is not, and how."""
    env = plan.environment
    lines = []
    width = max(map(len, env.services))
    for name in nx.lexicographical_topological_sort(env.calls):
        marks, same = [], []
        for instance in env.members(name):
            machine = env.instances[instance][1]
            if machine in witness.lost:
                marks.append(f"\u2717 {machine} lost")
            elif instance in witness.state:
                marks.append(f"\u2591 {machine} {witness.state[instance]}")
            elif instance not in plan.start.absent:
                same.append(f"\u2588 {machine}")
        lines.append(f"{name:<{width}}  {'  '.join((*_first(marks), *_first(same)))}".rstrip())
    return lines


def _first(marks: list[str], most: int = 5) -> list[str]:
    """The first of many."""
    return marks if len(marks) <= most else [*marks[: most - 1], f"{marks[most - 1][0]} {len(marks) - most + 1} more"]


def verdict(vetting: Vetting) -> str:
    """Whether a plan is clean, in one sentence."""
    counts = {severity: sum(f.severity == severity for f in vetting.findings) for severity in ("error", "warning", "note")}
    said = [f"{n} {name}{'s' if n != 1 else ''}" for name, n in counts.items() if n]
    return f"{'Clean' if vetting.is_clean else 'Not clean'}: {listed(said) or 'nothing to say'}."


def floors(vetting: Vetting) -> Table:
    """The least that each service leaves at the front door, whatever the timing."""

    def cells(floor: Floor) -> tuple[str, ...]:
        values = (
            floor.start_per_s,
            floor.least_per_s,
            floor.kept_per_s,
            floor.failures_per_s,
            floor.machine_lost_per_s,
            floor.zone_lost_per_s,
        )
        return (floor.service or "front door", *("-" if v is None else f"{v:.4g}" for v in values))

    header = ("least req/s at\nthe front door", "start", "any\ntiming", "but\nlocks", "failures\ntolerated", "machine\nlost", "zone\nlost")
    return Table(
        "For every timing",
        header,
        [cells(f) for f in vetting.floors],
        "but locks: apart from locks and moved leads that the plan declares, as in the columns after it\n-: no limit",
    )


def vetted(of_strategies: Mapping[str, Vetting]) -> Table:
    """A row for each strategy: its findings, and the least that it leaves at the front door."""
    rows = []
    for name, vetting in of_strategies.items():
        door = vetting.floors[0].kept_per_s if vetting.floors else None
        wrong = listed([f.id for f in vetting.findings if f.severity != "note"], most=3)
        rows.append(
            (name, "-" if door is None else f"{door:.4g}", str(sum(f.severity == "note" for f in vetting.findings)), wrong or "clean")
        )
    note = "kept: at the front door for every timing, apart from locks and moved leads\nAll findings of one: --strategy NAME"
    return Table("Vetting", ("strategy", "req/s\nkept", "notes", "findings"), rows, note, left=(0, 3))
