"""Plans of the independent implementation, read as plans of ours: the fields differ in name, never in meaning."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

from simdeploy.plan.plan import Plan

PLANS = pathlib.Path(__file__).parent / "plans"

SAME = ("id", "kind", "section", "needs", "after", "began", "done", "undone", "on", "pools", "p_fail", "retries", "retry_delay",
        "slow", "no_return", "fatal", "run", "check", "expects")  # fmt: skip
READ = ("services", "instances", "entry", "demand", "zones", "cells", "forbidden", "mtbf", "queue")
COPIED = ("role", "retry", "silent", "failover", "balancing", "serves", "observes")


def read(path: pathlib.Path) -> tuple[Plan, dict[str, Any]]:
    """(the plan, the whole document with its `metrics` or `means`)."""
    document = json.loads(path.read_text())
    given = document["plan"]
    crashes = [{"machine": m, "at_s": at, "for_s": None if math.isinf(float(length)) else length} for m, at, length in given["crashes"]]
    return Plan.model_validate(
        {
            "environment": _environment(given["env"], given["steps"]),
            "steps": [_step(s, given["env"]["instances"]) for s in given["steps"]],
            "pools": given["pools"],
            "start": {"absent": given["absent"], "out": given["out"], "live": given["live"]},
            "on_abort": given["on_abort"],
            "after_crash": given["crash"],
            "release": {"p_bad": given["p_bad"], "error_share": given["error_share"]},
            "crashes": crashes,
            # a disaster is a machine that never returns in a plan that says when it has recovered
            "disaster_at_s": min((c["at_s"] for c in crashes if c["for_s"] is None), default=None),
            "steady_capacity_per_s": given["reference"],
            "horizon_s": given["horizon"],
        }
    ), document


def _environment(env: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    unread = [k for k in env if k not in READ and env[k]]
    if unread:
        raise NotImplementedError(f"this adapter does not read {', '.join(unread)} yet")
    accepts = _accepts(env["forbidden"], steps)
    machines = list(dict.fromkeys(env["instances"].values()))
    queue = {} if env.get("queue") is None else {"excess": "queue", "patience_s": env["queue"]}
    return {
        "name": "reference",
        "machines": [{"name": m, "zone": env["zones"].get(m), **_life(m, env.get("mtbf", {}).get(m))} for m in machines],
        "entry": env["entry"],
        "services": {name: _service(name, s, env["instances"]) | {"accepts": accepts.get(name, {})} for name, s in env["services"].items()},
        "cells": _cells(env["cells"], env["instances"]),
        "mixing": "errors" if env["forbidden"] else "none",
        "demand": {"steps": [{"at_s": at, "rate_per_s": rate} for at, rate in env["demand"]], **queue},
    }


def _life(machine: str, given: Any) -> dict[str, Any]:
    """The mtbf of a machine, alone or in a list with its repair; a number that is infinite stands for none."""
    match [given] if not isinstance(given, list) else given:
        case [None]:
            return {}
        case [int() | float() as mtbf_s, *repair] if len(repair) <= 1:
            life = {"mtbf_s": mtbf_s, "repair": repair[0] if repair and repair[0] != math.inf else None}
            return {} if math.isinf(mtbf_s) else life
        case _:
            raise NotImplementedError(f"this adapter does not read the mtbf {given!r} of {machine!r}; it reads mtbf or [mtbf, repair]")


def _cells(given: dict[str, Any], instances: dict[str, str]) -> dict[str, Any]:
    """{instance: cell} or {cell: [instances]}, with equal shares of the demand."""
    if given and set(given) <= set(instances) and all(isinstance(cell, str) for cell in given.values()):
        given = {cell: [i for i, c in given.items() if c == cell] for cell in dict.fromkeys(given.values())}
    for cell, members in given.items():
        if not isinstance(members, list) or not set(members) <= set(instances):
            raise NotImplementedError(f"this adapter does not read cells such as {cell}: {members}")
    return {cell: {"on": list(dict.fromkeys(instances[i] for i in members))} for cell, members in given.items()}


def _accepts(forbidden: list[Any], steps: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, list[str]]]]:
    """[caller, its version, callee, its version] that do not go together -> what each caller accepts of all versions that occur."""
    occur: dict[str, dict[str, None]] = {}
    for verb, subject, *version in [e for s in steps for e in (*s.get("begin", ()), *s.get("end", ())) if len(e) > 2]:
        if verb in ("version", "schema"):
            occur.setdefault(subject.split("@")[0], {"1": None})[str(version[0])] = None
    accepts: dict[str, dict[str, dict[str, list[str]]]] = {}
    for rule in forbidden:
        if not isinstance(rule, list) or len(rule) != 4:
            raise NotImplementedError(f"this adapter does not read forbidden pairs such as {rule}")
        caller, version, callee, other = map(str, rule)
        accepted = accepts.setdefault(caller, {}).setdefault(version, {}).setdefault(callee, list(occur.get(callee, {"1": None})))
        if other in accepted:
            accepted.remove(other)
    return accepts


def _service(name: str, given: dict[str, Any], instances: dict[str, str]) -> dict[str, Any]:
    check = given.get("check")
    return {
        **{k: given[k] for k in COPIED if k in given},
        "on": [machine for i, machine in instances.items() if i.startswith(f"{name}@")],
        "capacity_per_s": given["c"],
        "calls": {callee: {"times": times, "dependency": kind} for callee, (times, kind) in given["calls"].items()},
        "health_check": None if check is None else dict(zip(("interval_s", "fall", "rise", "timeout_s"), check, strict=True)),
        "election": {
            "detect_s": given["detect"],
            "elect_s": given["elect"],
            "prefer": "upgraded" if given.get("prefer") == "upgraded" else "plan_order",
        },
    }


def _step(given: dict[str, Any], instances: dict[str, str]) -> dict[str, Any]:
    parts = given["id"].split("/")
    step = {k: given[k] for k in SAME if k in given}
    step["target"] = given.get("target") or next((p for p in parts if p in instances), "")
    if "dur" in given:
        step["duration"] = given["dur"]
    if given.get("timeout") not in (None, "inf"):
        step["timeout_s"] = given["timeout"]
    for when in ("begin", "end"):
        if when in given:
            step[when] = [["version", e[1], str(e[2])] if e[0] == "version" else e for e in given[when]]
    if given.get("gate"):
        step["gate"] = dict(zip(("sensitivity", "false_alarms", "reaction"), given["gate"], strict=True))
    if given.get("judge"):
        watch, size, limit, unit, of = given["judge"]
        step["judge"] = {"watch": watch, "size": size, "limit": None if limit == "inf" else limit, "unit": unit, "of": of}
    return step
