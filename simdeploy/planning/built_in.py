"""The built-in strategies: what each does with a service of each role, for any environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simdeploy.environment.models import Environment

Keys = Mapping[str, Any]
"""Keys of a partition or a strategy, as a file would say them."""


class BuiltIn(NamedTuple):
    """One way to partition all services of a scenario."""

    about: str
    """One line for people."""
    tiers: Keys = {}
    """Of services without a leader."""
    led: Keys | None = None
    """Of services with a leader; by default as the others, the leader last with a hand-over."""
    store: Keys = {"migration": "expand_contract"}
    """Of a datastore that is upgraded."""
    together: bool = False
    """All tiers at once, after the datastores."""
    slices: str | None = None


ONE = {"batches": 1}
LEADER_LAST = {"leader": "last", "hand_over": True}

BUILT_IN: dict[str, BuiltIn] = {
    "all-at-once": BuiltIn(
        "everything stops, the schema migrates, everything starts", {"take_out": "stop"}, {"take_out": "stop"}, {"migration": "offline"}
    ),
    "one-by-one": BuiltIn("one of a tier at a time behind a drain; a leader last", ONE),
    "one-by-one-parallel": BuiltIn("the same, all tiers at the same time", ONE, together=True),
    "one-by-one-stopped": BuiltIn(
        "one at a time without a drain; health checks notice", {"batches": 1, "take_out": "stop"},
        {"batches": 1, "take_out": "stop", "leader": "last"},
    ),
    "one-by-one-weighed": BuiltIn(
        "one at a time, less and less traffic before the drain", {"batches": 1, "take_out": "weigh", "weights": ["50 %", "10 %"]},
        {"batches": 1, **LEADER_LAST},
    ),
    "leader-first": BuiltIn("one at a time, a leader first and by an election", ONE, {"batches": 1, "leader": "first"}),
    "canary": BuiltIn("one instance of a tier, then all the others of it", {"batches": "canary"}),
    "halves": BuiltIn("one half of a tier after the other", {"batches": "halves"}),
    "quarters": BuiltIn("a quarter of a tier at a time", {"batches": "25 %"}),
    "by-zone": BuiltIn("a tier zone by zone", {"batches": "by_zone"}),
    "by-update-domain": BuiltIn("a tier update domain by update domain", {"batches": "by_update_domain"}),
    "rolling-update": BuiltIn(
        "as a Kubernetes Deployment: 25 % more, at most 25 % away", {"max_surge": "25 %", "max_unavailable": "25 %"}
    ),
    "surge": BuiltIn("a new machine serves before each old one goes", {"max_surge": 1}),
    "blue-green": BuiltIn("a whole new set of machines, then a switch", {"blue_green": True}),
    "slices-by-zone": BuiltIn("all tiers of a zone at once, zone by zone", slices="by_zone"),
    "cell-by-cell": BuiltIn("all tiers of a cell at once, cell by cell", slices="by_cell"),
    "replica-first": BuiltIn(
        "replicas of a datastore, a switchover, then its primary", ONE, store={"migration": "replica_first"}
    ),
    "split": BuiltIn("a datastore in halves that both take writes meanwhile", ONE, store={"migration": "split"}),
}  # fmt: skip


def filled_in(strategy: Any, env: Environment, to: Mapping[str, Any], changed: Sequence[str]) -> Any:
    """*strategy*, as a file says it, laid over the built-in one that it uses; what is no such thing comes back as it is."""
    if not isinstance(strategy, Mapping) or not isinstance(strategy.get("use"), str) or strategy["use"] not in BUILT_IN:
        return strategy
    built_in = BUILT_IN[strategy["use"]]
    stores = [name for name in changed if env.services[name].role == "datastore" and name in to]
    base: dict[str, Any] = {"about": built_in.about}
    if built_in.slices is not None:
        base["slices"] = built_in.slices
    stopped = {w for s in stores if built_in.store["migration"] == "offline" for w, x in env.services.items() if s in x.calls}
    if built_in.together:
        base["order"] = [[s] for s in stores] + [[s for s in changed if s not in stores]]
    services = strategy.get("services")
    own = services if isinstance(services, Mapping) else {}
    partitions = {name: _partition(built_in, name, env, name in stores, name in stopped) for name in changed}
    partitions |= {name: _over(partitions.get(name, {}), keys) for name, keys in own.items()}
    rest = {key: value for key, value in strategy.items() if key != "services" or not isinstance(value, Mapping)}
    if "order" in rest or "slices" in rest:
        base = {"about": built_in.about}
    return {**base, "services": partitions, **rest}


def _partition(built_in: BuiltIn, name: str, env: Environment, migrates: bool, stopped: bool) -> dict[str, Any]:
    role = env.services[name].role
    if migrates:
        return dict(built_in.store)
    keys = dict(built_in.tiers)
    if role in ("leader_elected", "datastore"):
        cut = bool(keys.keys() - {"take_out"})
        keys = dict(built_in.led) if built_in.led is not None else keys | (LEADER_LAST if cut and len(env.services[name].on) > 1 else {})
    if stopped:
        keys = {key: value for key, value in keys.items() if key == "take_out"}
    return keys


def _over(base: Keys, keys: Any) -> Any:
    """*keys* over *base*; who says how many go at once says it alone."""
    if not isinstance(keys, Mapping):
        return keys
    cutting = {"batches", "max_unavailable", "max_surge", "min_available", "minimum_healthy", "blue_green", "rounding"}
    kept = {key: value for key, value in base.items() if key not in cutting or not cutting & keys.keys()}
    return {**kept, **keys}
