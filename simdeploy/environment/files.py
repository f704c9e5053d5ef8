"""Environment files: standing on another file (`like`), counted machines, patterns of names, demand from CSV."""

from __future__ import annotations

import fnmatch
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from simdeploy.environment.curves import read_curve
from simdeploy.environment.loading import Document, shown
from simdeploy.environment.models import Environment
from simdeploy.environment.names import NAME, did_you_mean
from simdeploy.errors import FileError

WHOLE = frozenset({"demand", "duration", "retry_delay", "hold", "calls", "accepts", "health_check", "cells"})
"""Keys whose mappings replace those of the file below instead of being merged with them."""
MOST_MACHINES = 100_000
"""Of an environment with counts, all together."""
MOST_COMPARISONS = 2_000_000
"""Of patterns with names of machines."""
MOST_FILES = 20
"""That stand on each other."""
TAKING_TURNS = ("zone", "update_domain")
"""Keys of a counted machine whose values of a list take turns."""


def load_environment(path: str | pathlib.Path) -> Environment:
    """The environment that the YAML file at *path* describes. Raises FileError with every fault in it."""
    document = _composed(pathlib.Path(path), ())
    _count_machines(document)
    _match_names(document)
    document.gather_inputs()
    services = document.data.get("services")
    entry = next(iter(services), "") if isinstance(services, dict) else ""
    environment = document.check(Environment, instead={"name": "unnamed", "entry": entry, "demand": {"rate": "1 req/s"}})
    if environment is None or document.faults:
        raise FileError(document.faults)
    return environment


def _composed(path: pathlib.Path, above: tuple[pathlib.Path, ...]) -> Document:
    """The document at *path*, laid over the one that its key `like` names, and so on."""
    document = Document(path)
    _inline_csv(document)
    named = document.data.pop("like", None)
    if named is None:
        return document
    base = path.parent / str(named)
    if not isinstance(named, str) or not named.isprintable() or os.path.realpath(base) in map(os.path.realpath, (*above, path)):
        document.fault(("like",), f"{named!r:.60} is no other environment file, or leads back here; name the file that this one stands on")
        raise FileError(document.faults)
    if len(above) + 2 > MOST_FILES:
        document.fault(("like",), f"more than {MOST_FILES} files stand on each other down to this one; write some of them as one")
        raise FileError(document.faults)
    try:
        document.lay_over(_composed(base, (*above, path)), WHOLE)
    except FileError as error:
        if error.faults[0].message.startswith("cannot be read"):
            document.fault(("like",), f"environment {named!r} {error.faults[0].message}")
            raise FileError(document.faults) from None
        raise
    return document


def _count_machines(document: Document) -> None:
    """`{name: "web{n}", count: 50, zone: [a, b]}` stands for web1 to web50, the zones in turn, and so the update domains."""
    listed = document.data.get("machines")
    if not isinstance(listed, list) or not any(isinstance(m, dict) and "count" in m for m in listed):
        return
    machines: list[Any] = []
    made_from: list[int] = []
    meant: list[re.Pattern[str]] = []
    for i, machine in enumerate(listed):
        made = [machine]
        if isinstance(machine, dict) and "count" in machine:
            fault = _fault_of_count(machine, MOST_MACHINES - len(machines))
            if fault:
                document.fault(("machines", i, fault[0]), fault[1])
            if fault or "name" not in machine:
                meant.append(_names_meant(machine.get("name")))
            made = _counted(machine, 1 if fault else machine["count"])
        machines += made
        made_from += [i] * len(made)
    document.write_out(("machines",), machines + _asked_for(document, machines, meant), made_from)
    _count_inputs(document, made_from)


def _count_inputs(document: Document, origins: list[int]) -> None:
    """Marks on a machine of the list are marks on all machines that it stands for: `machines.3-7.mtbf`."""
    for path in [p for p in document.inputs if p[:1] == ("machines",) and len(p) > 1]:
        made = [j for j, i in enumerate(origins) if i == path[1]]
        mark = document.inputs.pop(path)
        if made:
            document.inputs["machines", made[0] if len(made) == 1 else f"{made[0]}-{made[-1]}", *path[2:]] = mark


def _fault_of_count(machine: dict[str, Any], left: int) -> tuple[str, str] | None:
    """At which key a counted machine is wrong, and how; there may be *left* more machines."""
    name, count = str(machine.get("name", "{n}")), machine["count"]  # a missing name is reported as such
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return "count", f"{count!r:.60} is no count of machines; write a whole number from 1 to {MOST_MACHINES}"
    if count > left:
        return "count", f"{str(count)[:20]} more machines are too many; all counts of an environment make at most {MOST_MACHINES} machines"
    if "{n}" not in name:
        return "name", f"{count} machines cannot all be called {name!r:.60}; put {{n}} where their number goes"
    return None


def _counted(machine: dict[str, Any], count: int) -> list[Any]:
    name = machine.get("name")
    turns = {key: machine[key] for key in TAKING_TURNS if isinstance(machine.get(key), list) and machine[key]}
    rest = {k: v for k, v in machine.items() if k != "count"}
    if not isinstance(name, str) or not NAME.fullmatch(name.replace("{n}", str(count))):
        count = 1  # to be reported once
    named = (rest | {"name": name.replace("{n}", str(n + 1))} if isinstance(name, str) else rest for n in range(count))
    return [one | {key: values[n % len(values)] for key, values in turns.items()} for n, one in enumerate(named)]


def _names_meant(name: Any) -> re.Pattern[str]:
    """The names that a machine with a wrong count may have been meant to stand for."""
    before, _, after = name.partition("{n}") if isinstance(name, str) else ("", "", "")
    return re.compile(rf"{re.escape(before)}[._-]?\d*{re.escape(after)}") if before or after else NAME


def _asked_for(document: Document, machines: list[Any], meant: list[re.Pattern[str]]) -> list[Any]:
    """Machines for what the services name and a wrong count was meant to make: that these are missing follows from it."""
    known = {m.get("name") for m in machines if isinstance(m, dict) and isinstance(m.get("name"), str)}
    asked = {text.replace("*", "1") for text in _texts(document.data.get("services"))} if meant else set()
    return [{"name": t} for t in sorted(asked - known) if NAME.fullmatch(t) and any(p.fullmatch(t) for p in meant)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _match_names(document: Document) -> None:
    """A pattern such as `web*` under `on` stands for all machines whose names it matches, in their order."""
    machines = document.data.get("machines")
    if not isinstance(machines, list):
        return
    names = [m["name"] for m in machines if isinstance(m, dict) and isinstance(m.get("name"), str)]
    blocks = [(block, document.data[block]) for block in ("services", "cells") if isinstance(document.data.get(block), dict)]
    named = [(block, name, fields) for block, inner in blocks for name, fields in inner.items() if isinstance(fields, dict)]
    lists = {(block, name): fields["on"] for block, name, fields in named if isinstance(fields.get("on"), list)}
    patterns = [one for on in lists.values() for one in on if _is_pattern(one)]
    if len(patterns) * len(names) > MOST_COMPARISONS:
        document.fault(("services",), f"{len(patterns)} patterns under 'on' are too many for {len(names)} machines; name the machines")
        raise FileError(document.faults)
    sound = len(names) == len(machines)  # else a pattern may be meant for those whose names are wrong
    for where, on in lists.items():
        if any(_is_pattern(one) for one in on):
            found: list[Any] = []
            made_from: list[int] = []
            for j, one in enumerate(on):
                matched = fnmatch.filter(names, one) if _is_pattern(one) else [one]
                if not matched and sound:
                    document.fault((*where, "on", j), f"no machine is called like {one!r:.60}; {did_you_mean(one.rstrip('*'), names)}")
                found += matched
                made_from += [j] * len(matched)
            document.write_out((*where, "on"), found or names[:2], made_from)  # nothing shall follow from an empty list


def _is_pattern(name: Any) -> bool:
    return isinstance(name, str) and "*" in name


def _inline_csv(document: Document) -> None:
    """Demand from a CSV file beside this one becomes `steps`."""
    demand = document.data.get("demand")
    if not isinstance(demand, dict) or not isinstance(demand.get("csv"), str):
        return
    file = document.path.parent / demand["csv"]
    try:
        rows = read_curve(file)
    except FileError as error:
        for fault in error.faults:
            document.fault(("demand", "csv"), f"{shown(file)}:{fault.line}: {fault.message}")
        rows = [(0.0, 0.0)]
    del demand["csv"]
    if "steps" in demand:
        document.fault(("demand", "steps"), "steps and csv both say how the demand goes; keep one of them")
    demand["steps"] = [{"at": f"{at!r} s", "rate": f"{rate!r} req/s"} for at, rate in rows]
