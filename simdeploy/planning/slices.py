"""Vertical slices: machines of all tiers that go together, one slice after the other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simdeploy.environment.models import Environment
from simdeploy.environment.names import Name, did_you_mean, in_short
from simdeploy.errors import Path, Problem

SliceWord = Literal["by_zone", "by_update_domain", "by_cell"]
Slices = SliceWord | Annotated[tuple[Annotated[tuple[Name, ...], Field(min_length=1)], ...], Field(min_length=1)]


def cut_slices(slices: Slices, services: tuple[str, ...], env: Environment) -> list[tuple[str, ...]]:
    """The instances of *services* slice by slice, each in canonical order; slices without any are left out."""
    slice_of = _slice_of(slices, env)
    wanted = [i for i, (service, _) in env.instances.items() if service in services]
    order = list(dict.fromkeys(slice_of.values()))
    groups = [tuple(i for i in wanted if slice_of.get(env.instances[i][1]) == group) for group in order]
    return [group for group in groups if group]


def slice_problems(slices: Slices, services: tuple[str, ...], env: Environment) -> list[Problem]:
    """What is wrong with slicing *services* so; paths begin at the slices."""
    found: list[Problem] = []
    names = [m.name for m in env.machines]
    listed: list[str] = []
    for i, group in enumerate(() if isinstance(slices, str) else slices):
        for j, machine in enumerate(group):
            here: Path = (i, j)
            if machine not in names:
                found.append(Problem(here, f"{machine!r} is no machine; {did_you_mean(machine, names)}"))
            elif machine in listed:
                found.append(Problem(here, f"{machine!r} is in two slices; keep one"))
            listed.append(machine)
    slice_of = _slice_of(slices, env)
    bare = sorted({env.instances[i][1] for s in services for i in env.members(s)} - set(slice_of), key=names.index)
    if bare and not found:
        way_out = "name each in one slice" if not isinstance(slices, str) else f"give each machine its {slices.removeprefix('by_')}"
        found.append(Problem((), f"{in_short(bare)} are to change and are in no slice; {way_out}"))
    return found


def _slice_of(slices: Slices, env: Environment) -> dict[str, object]:
    """Machine -> the slice it belongs to, in the order of the slices."""
    if not isinstance(slices, str):
        return {machine: i for i, group in enumerate(slices) for machine in group}
    if slices == "by_cell":
        return {machine: name for name, cell in env.cells.items() for machine in cell.on}
    key = slices.removeprefix("by_")
    return {m.name: getattr(m, key) for m in env.machines if getattr(m, key) is not None}
