"""The rules of cells: which machines are in one, and what may run there."""

from __future__ import annotations

import math
from collections.abc import Iterator

from simdeploy.environment.models import Environment
from simdeploy.environment.names import did_you_mean
from simdeploy.errors import Problem


def cell_problems(env: Environment) -> Iterator[Problem]:
    """Every rule of cells that *env* breaks, with its path in the document."""
    if env.reroute and not env.cells:
        yield Problem(("reroute",), "reroute says where the demand of a dead cell goes, and there are no cells; add cells or drop reroute")
    yield from _machine_problems(env)
    yield from _share_problems(env)
    for service in env.services:
        if service in env.pinned:
            yield from _pinned_problems(env, service)


def _machine_problems(env: Environment) -> Iterator[Problem]:
    names = [m.name for m in env.machines]
    first: dict[str, str] = {}
    for name, cell in env.cells.items():
        if not cell.on:
            yield Problem(("cells", name, "on"), f"cell {name!r} has no machines; name at least one")
        for j, machine in enumerate(cell.on):
            place = ("cells", name, "on", j)
            if machine not in names:
                yield Problem(place, f"cell {name!r} has {machine!r}, which is no machine; {did_you_mean(machine, names)}")
            elif machine in first:
                where = "twice in this cell" if first[machine] == name else f"in the cells {first[machine]!r} and {name!r}"
                yield Problem(place, f"machine {machine!r} is {where}; a machine is in one cell, once")
            first.setdefault(machine, name)


def _share_problems(env: Environment) -> Iterator[Problem]:
    stated = {name: cell.share for name, cell in env.cells.items() if cell.share is not None}
    if not stated:
        return
    for name in env.cells:
        if name not in stated:
            yield Problem(("cells", name), f"cell {name!r} states no share and {next(iter(stated))!r} does; state all of them or none")
    total = math.fsum(stated.values())
    if len(stated) == len(env.cells) and not math.isclose(total, 1, rel_tol=1e-9):
        yield Problem(("cells",), f"the shares of the cells add to {100 * total:g} %; make them add to 100 %, or state none")


def _pinned_problems(env: Environment, name: str) -> Iterator[Problem]:
    service = env.services[name]
    for j, machine in enumerate(service.on):
        if machine not in env.cell_of:
            message = (
                f"{name!r} runs on {machine!r}, which is in no cell, and on machines that are in one; put all of it in cells, or nothing"
            )
            yield Problem(("services", name, "on", j), message)
    if service.role != "stateless":
        message = f"{name!r} is {service.role} and runs in cells; a cell with a {service.role} service of its own is not modelled"
        yield Problem(("services", name, "role"), f"{message}: let it run outside the cells, or be stateless")
    inside = {env.cell_of.get(machine) for machine in service.on}
    for cell in env.cells:
        if cell not in inside:
            message = f"{name!r} runs in cells, and not in {cell!r}; run it on a machine of every cell, or outside of all"
            yield Problem(("services", name, "on"), message)
