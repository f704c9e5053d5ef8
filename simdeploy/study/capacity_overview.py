"""Capacity planning as tables of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator

from simdeploy.environment.demand import DAY_S
from simdeploy.plan.overview import number
from simdeploy.study.capacity import Capacity
from simdeploy.study.windows import DAYS, Window, Windows
from simdeploy.tables import Table, listed
from simdeploy.units import format_s


def tables(found: Capacity) -> Iterator[Table]:
    """Headroom, machines, waits, availability and windows, as far as there are any."""
    peak = found.environment.demand.peak_per_s
    rows = [
        (h.service or "front door", *(_rate(x) for x in (h.steady_per_s, h.upgrade_per_s, h.lost_per_s)), _times(h.growth))
        for h in found.headroom
    ]
    header = ("req/s at the\nfront door", "steady", "while it\nruns", "a machine\nlost too", "times the\ndemand")
    note = f"peak demand: {_rate(peak)} req/s; while it runs: for every timing, proved by vetting\n-: no limit"
    yield Table(f"Headroom with {found.strategy}", header, rows, note)
    yield _needs(found)
    if found.waits:
        yield Table(
            "Waiting at the peak of the demand",
            ("service", "when", "instances", "busy", "has to\nwait", "mean\nwait", "p95\nwait", "mean\nresponse"),
            [
                (
                    w.service,
                    w.when,
                    str(w.instances),
                    _share(w.utilisation),
                    _share(w.p_wait),
                    _time(w.wait_s),
                    _time(w.wait_p95_s),
                    _time(w.response_s),
                )
                for w in found.waits
            ],
            "M/M/c: Poisson arrivals, exponential service, as many workers as the instances have",
            left=(0, 1),
        )
    if found.enough:
        yield Table(
            "How often enough machines are up",
            ("service", "machines", "needed", "one is up", "enough are up"),
            [(e.service, str(e.machines), str(e.needed), f"{100 * e.up:.4g} %", _nearly(e.enough, e.up)) for e in found.enough],
            "MTBF and repair of each machine by itself; needed: to carry the peak of the demand",
        )
    if found.windows is not None:
        yield _windows(found.windows, found.cheapest is not None)


def _needs(found: Capacity) -> Table:
    growths = sorted({n.growth for n in found.needs})
    rows = []
    for tier in dict.fromkeys(n.tier for n in found.needs):
        cells = [n for n in found.needs if n.tier == tier]
        rows.append((tier, str(cells[0].has), *("-" if n.needs is None else str(n.needs) for n in cells)))
    header = ("tier", "has", *(f"demand\nx {g:g}" for g in growths))
    whys = {n.tier: n.why for n in found.needs if n.why}
    lines = ["so many that any one of the tier may be lost while the plan runs, for every timing"]
    lines += [f"{tier}: {why}" for tier, why in whys.items()]
    if found.cheapest is not None:
        best = found.cheapest
        if best.sizes == {}:
            lines.append("cheapest that meets all goals: as it is; no tier can change its number of machines")
        elif best.sizes is None:
            lines.append(f"cheapest that meets all goals: {best.why}")
        else:
            sizes = listed([f"{tier} {n}" for tier, n in best.sizes.items()])
            said = best.why or f"{best.tried} tried"
            stay = "stay as they are" if len(best.kept) > 1 else "stays as it is"
            said += f"; {listed(best.kept)} {stay}: the strategy or a cell names machines or counts" if best.kept else ""
            lines.append(f"cheapest that meets all goals: {sizes}; {best.machine_hours_per_day:g} machine-hours a day, {said}")
    return Table("Machines that each tier needs", header, rows, "\n".join(lines))


def _windows(found: Windows, goals: bool) -> Table:
    """A row for each of the best and worst moments to begin."""
    ordered = sorted(found.tried, key=lambda w: (w.failed_requests, w.risk, w.at_s))
    weekly = found.cycle_s > DAY_S
    shown = [*ordered[:3], *ordered[-2:]] if len(ordered) > 5 else ordered
    rows = [
        (
            moment(w, weekly),
            _rate(w.demand_per_s),
            number("failed_requests", w.failed_requests),
            "-" if w.failed_p95 is None else number("failed_requests", w.failed_p95),
            _share(w.risk),
        )
        for w in shown
    ]
    best = listed([moment(w, weekly) for w in found.best], most=8)
    header = ("begin", "demand\nthen", "failed\nmean", "failed\np95", "capacity\nbelow demand" if not goals else "breaks\na goal")
    return Table("When to begin: the three best and the two worst", header, rows, f"best: {best}")


def moment(window: Window, weekly: bool) -> str:
    """'Mon 03:00', or of a day '03:00'."""
    clock = f"{window.hour:02d}:00"
    return f"{DAYS[int(window.at_s // DAY_S)]} {clock}" if weekly else clock


def _rate(x: float | None) -> str:
    return "-" if x is None else f"{x:.4g}"


def _times(x: float | None) -> str:
    return "-" if x is None else f"{x:.2f}"


def _share(x: float) -> str:
    if math.isinf(x):
        return "over"
    return "<0.01 %" if 0 < x < 1e-4 else f"{100 * x:.3g} %"


def _nearly(x: float, up: float) -> str:
    return ">99.9999 %" if x > 1 - 1e-6 and up < 1 else f"{100 * x:.6g} %"


def _time(x: float) -> str:
    if math.isinf(x):
        return "no end"
    return "<0.01 ms" if 0 < x < 1e-5 else format_s(float(f"{x:.3g}"))
