"""The metrics: one closed table of names, units and meanings. How they are measured stands in `measurement`."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One figure of a plan."""

    unit: str
    better: Literal["lower", "higher"]
    sampled: bool
    """In a real run it is known only from samples (a prober, the load); without them it is inferred from the steps."""
    meaning: str


METRICS: dict[str, Metric] = {
    "makespan_s": Metric("s", "lower", False, "from the first step that may start to the end of the last"),
    "downtime_s": Metric("s", "lower", True, "time in which users are there and nothing is served"),
    "brownout_s": Metric("s", "lower", True, "time in which something is served, less than users want"),
    "failed_requests": Metric("requests", "lower", True, "demand that was not served, and what drains cut"),
    "cut_requests": Metric("requests", "lower", True, "requests still held when a drain's time-out cut them"),
    "bad_release_requests": Metric("requests", "lower", True, "requests that failed because a bad release served them"),
    "availability": Metric("share", "higher", True, "share of the offered requests that was served"),
    "capacity_min": Metric("req/s", "higher", True, "lowest front-door capacity"),
    "capacity_min_fraction": Metric("share", "higher", True, "the same, of the steady capacity"),
    "capacity_end": Metric("req/s", "higher", True, "front-door capacity at the end"),
    "capacity_end_fraction": Metric("share", "higher", True, "the same, of the steady capacity"),
    "headroom_min": Metric("share", "higher", True, "lowest (capacity - demand) / demand"),
    "lost_capacity": Metric("requests", "lower", True, "integral of what is missing to the steady capacity"),
    "single_fault_s": Metric("s", "lower", False, "time in which one more loss is not survived, of those that the start state bore"),
    "data_loss_s": Metric("s", "lower", True, "acknowledged writes of this long are gone"),
    "lost_writes": Metric("writes", "lower", True, "acknowledged writes that are gone"),
    "added_exposure_s": Metric("s", "lower", False, "largest extra data loss, were a store lost, over the same store left alone"),
    "exposure_max_s": Metric("s", "lower", False, "largest data loss while the plan runs, were a store lost; inf where nothing bounds it"),
    "divergent_writes": Metric("writes", "lower", True, "writes taken while a store was split"),
    "reconcile_s": Metric("s", "lower", False, "time of the steps that join a split store again"),
    "rto_s": Metric("s", "lower", True, "from the disaster to validated service at the demanded capacity"),
    "skew_s": Metric("s", "lower", False, "time in which instances of one service serve in mixed versions"),
    "incompatible_s": Metric("s", "lower", False, "time in which a caller serves beside a version or schema that it does not accept"),
    "blind_s": Metric("s", "lower", False, "time in which an instance serves unobserved by any monitor"),
    "unchecked_s": Metric("s", "lower", False, "time in which a new version serves and no serving monitor has checks for it"),
    "unobserved_change_s": Metric("s", "lower", False, "time in which a step runs on a machine none of whose services is observed"),
    "rollback_s": Metric("s", "lower", False, "from the abort that leads to the rollback to the rollback's end; 0 without"),
    "forward_s": Metric("s", "lower", False, "from the abort that leads to forward rounds to their end; 0 without"),
    "failovers": Metric("changes", "lower", False, "changes between two different leaders"),
    "machine_hours": Metric("h", "lower", False, "hours of allocated machines"),
    "out_at_end": Metric("instances", "lower", False, "instances neither serving nor absent at the end"),
    "steps_failed": Metric("steps", "lower", False, "steps that failed after all their attempts, judges and gates that aborted included"),
}  # fmt: skip

OUTCOMES = ("success", "partial", "rolled_back", "halted", "stuck")
"""How a run ends; each is also a metric, 1 where the run ended so and 0 elsewhere, whose mean is its probability."""

METRICS |= {
    outcome: Metric("probability", "higher" if outcome == "success" else "lower", False, f"the run ends {outcome.replace('_', ' ')}")
    for outcome in OUTCOMES
}
