"""Environment files: standing on another file (`like`), counted machines, patterns of names, demand from CSV."""

from __future__ import annotations

import csv
import fnmatch
import pathlib
from typing import Any

from simdeploy.environment.loading import Document
from simdeploy.environment.models import Environment, did_you_mean
from simdeploy.errors import FileError

WHOLE = frozenset({"demand", "duration", "retry_delay", "hold", "calls", "accepts", "health_check", "cells"})
"""Keys whose mappings replace those of the file below instead of being merged with them."""
MOST_MACHINES = 100_000


def load_environment(path: str | pathlib.Path) -> Environment:
    """The environment that the YAML file at *path* describes. Raises FileError with every fault in it."""
    document = _composed(pathlib.Path(path), ())
    if "inputs" in document.data:
        document.fault(("inputs",), "unknown key 'inputs'; the inputs are gathered from the marks assumed: and measured: beside the values")
    _count_machines(document)
    _match_names(document)
    document.data["inputs"] = [
        {"at": ".".join(map(str, at)), "mark": mark, "source": source} for at, (mark, source) in document.inputs.items()
    ]
    environment = document.check(Environment)
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
    if not isinstance(named, str) or "\0" in named or base.resolve() in [p.resolve() for p in (*above, path)]:
        document.fault(("like",), f"{named!r} is no other environment file, or leads back here; name the file that this one stands on")
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
    """`{name: "web{n}", count: 50, zone: [a, b]}` stands for web1 to web50, the zones in turn."""
    listed = document.data.get("machines")
    if not isinstance(listed, list):
        return
    machines: list[Any] = []
    origins: list[int] = []
    for i, machine in enumerate(listed):
        made = _counted(document, i, machine) if isinstance(machine, dict) and "count" in machine else [machine]
        machines += made
        origins += [i] * len(made)
    if len(machines) != len(listed):
        for j, i in reversed(list(enumerate(origins))):
            if j != i:
                document.stands_for(("machines", j), ("machines", i))
        _count_inputs(document, origins)
    document.data["machines"] = machines


def _count_inputs(document: Document, origins: list[int]) -> None:
    """Marks on a machine of the list are marks on all machines that it stands for: `machines.3-7.mtbf`."""
    for path in [p for p in document.inputs if p[0] == "machines" and len(p) > 1]:
        made = [j for j, i in enumerate(origins) if i == path[1]]
        mark = document.inputs.pop(path)
        if made:
            document.inputs["machines", made[0] if len(made) == 1 else f"{made[0]}-{made[-1]}", *path[2:]] = mark


def _counted(document: Document, i: int, machine: dict[str, Any]) -> list[Any]:
    name, count, zones = str(machine.get("name", "")), machine["count"], machine.get("zone")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_MACHINES:
        document.fault(("machines", i, "count"), f"{count!r} is no count of machines; write a whole number from 1 to {MOST_MACHINES}")
        return []
    if "{n}" not in name:
        document.fault(("machines", i, "name"), f"{count} machines cannot all be called {name!r}; put {{n}} where their number goes")
        return []
    turns = zones if isinstance(zones, list) and zones else [zones]
    rest = {k: v for k, v in machine.items() if k not in ("count", "name", "zone")}
    return [rest | {"name": name.replace("{n}", str(n + 1)), "zone": turns[n % len(turns)]} for n in range(count)]


def _match_names(document: Document) -> None:
    """A pattern such as `web*` under `on` stands for all machines whose names it matches, in their order."""
    machines = document.data.get("machines")
    if not isinstance(machines, list):
        return
    names = [str(m["name"]) for m in machines if isinstance(m, dict) and "name" in m]
    blocks = [(block, document.data[block]) for block in ("services", "cells") if isinstance(document.data.get(block), dict)]
    for block, name, fields in [(block, name, fields) for block, named in blocks for name, fields in named.items()]:
        patterns = fields.get("on") if isinstance(fields, dict) else None
        if not isinstance(patterns, list) or not any(isinstance(p, str) and "*" in p for p in patterns):
            continue
        found: list[Any] = []
        for j, pattern in enumerate(patterns):
            matched = fnmatch.filter(names, pattern) if isinstance(pattern, str) and "*" in pattern else [pattern]
            if not matched:
                document.fault((block, name, "on", j), f"no machine is called like {pattern!r}; {did_you_mean(pattern.rstrip('*'), names)}")
            found += matched
        fields["on"] = found


def _inline_csv(document: Document) -> None:
    """Demand from a CSV file beside this one becomes `steps`."""
    demand = document.data.get("demand")
    if not isinstance(demand, dict) or not isinstance(demand.get("csv"), str):
        return
    file = document.path.parent / demand["csv"]
    try:
        with open(file, newline="", encoding="utf-8") as lines:
            rows = [(float(row["time_s"]), float(row["rate_per_s"])) for row in csv.DictReader(lines)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"column {error} is missing" if isinstance(error, KeyError) else str(error)
        document.fault(("demand", "csv"), f"{file}: {reason}; a demand file has the columns time_s,rate_per_s and numbers below them")
        rows = [(0.0, 0.0)]
    del demand["csv"]
    if "steps" in demand:
        document.fault(("demand", "steps"), "steps and csv both say how the demand goes; keep one of them")
    demand["steps"] = [{"at": f"{at!r} s", "rate": f"{rate!r} req/s"} for at, rate in rows]
