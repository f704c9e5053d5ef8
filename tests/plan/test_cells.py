"""Cells and mixed versions, with pencil numbers: what a cell serves, what a dead one loses, which calls fail."""

from __future__ import annotations

from typing import Any

import pytest

from simdeploy.environment.models import Environment
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from tests.builders import run

HORIZON_S = 100.0
CHECK = {"interval_s": 10.0, "fall": 2}


def lasting(env: Environment, *effects: tuple[Any, ...], **fields: Any) -> dict[str, float]:
    """Every metric of a plan in which *effects* last from the beginning to the horizon."""
    return {m: v[0] for m, v in run(Plan(environment=env, steps=(Step(id="s", begin=effects),), horizon_s=HORIZON_S, **fields)).items()}


def out(*instances: str) -> tuple[tuple[str, str], ...]:
    return tuple(("out", i) for i in instances)


def celled(
    demand: float, web: dict[str, Any] | None = None, mid: dict[str, Any] | None = None, sql: float = 1000.0, **fields: Any
) -> Environment:
    """lb -> web -> mid -> sql. Cell a: web a1, a2 of 100, mid ma of 120; b: web b1, b2 of 100, mid mb of 120. lb and sql are shared."""
    webs, mids = ["a1", "a2", "b1", "b2"], ["ma", "mb"]
    shares = fields.pop("shares", (None, None))
    cells = {name: {"on": [f"{name}1", f"{name}2", f"m{name}"], "share": share} for name, share in zip("ab", shares, strict=True)}
    return Environment.model_validate(
        {
            "name": "cells",
            "machines": [{"name": m} for m in (*webs, *mids, "lb", "sql")],
            "entry": "lb",
            "services": {
                "lb": {"on": ["lb"], "calls": {"web": {}}},
                "web": {"on": webs, "capacity_per_s": 100.0, "calls": {"mid": {}}} | (web or {}),
                "mid": {"on": mids, "capacity_per_s": 120.0, "calls": {"sql": {}}} | (mid or {}),
                "sql": {"on": ["sql"], "capacity_per_s": sql, "role": "datastore"},
            },
            "demand": {"rate_per_s": demand},
            "cells": cells,
        }
        | fields
    )


# capacity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "sql", "capacity"),
    [
        ((), 1000.0, 240),  # each mid bounds its cell: 120 + 120
        ((), 200.0, 200),  # what is shared bounds all
        (("web@a1",), 1000.0, 220),  # 100 + 120; in one pool it would be min(300, 240)
        (("web@a1", "web@b1"), 1000.0, 200),
        (("web@a1", "web@a2"), 1000.0, 120),  # a is dead; in one pool it would be 200
        (("mid@ma",), 1000.0, 120),
        (("web@a1", "web@a2", "mid@mb"), 1000.0, 0),  # each cell lacks a tier, though both tiers serve
    ],
)
def test_cells_add_what_each_can_serve_by_itself(gone, sql, capacity):
    assert capacity == lasting(celled(50.0, sql=sql), *out(*gone))["capacity_min"]


def test_like_instances_of_different_cells_are_told_apart():
    """Two boxes of one cell, or one of each: without them 120 + 0 or 100 + 100 req/s."""
    env = celled(50.0)
    both = Step(id="both", duration={"fixed": 10.0}, begin=out("web@a1", "web@a2"), end=(("serve", "web@a1"), ("serve", "web@a2")))
    each = Step(id="each", needs=("both",), duration={"fixed": 10.0}, begin=out("web@a1", "web@b1"))

    one = run(Plan(environment=env, steps=(both, each), horizon_s=20.0))

    assert (120, 200) == (one["capacity_min"][0], one["capacity_end"][0])
    assert 120 * 10 + 40 * 10 == one["lost_capacity"][0]


@pytest.mark.parametrize(("demand", "at_risk_s"), [(90.0, 0), (110.0, 100), (125.0, 100)])
def test_one_more_loss_is_held_against_the_sum_of_the_cells(demand, at_risk_s):
    """Without a1: 100 + 120. Another loss leaves 100 (mb) or 120 (a2, ma), of 120 or more that the start bore."""
    assert at_risk_s == lasting(celled(demand), *out("web@a1"))["single_fault_s"]


# demand --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "demand", "shares", "reroute", "served"),
    [
        ((), 200.0, (None, None), False, 200),
        ((), 200.0, (0.25, 0.75), False, 50 + 120),  # b turns 30 away, though C = 240
        ((), 200.0, (0.25, 0.75), True, 50 + 120),  # rerouted is only what dead cells would get
        (("mid@ma",), 200.0, (None, None), False, 100),  # the dead cell's share is lost
        (("mid@ma",), 200.0, (None, None), True, 120),
        (("mid@ma",), 80.0, (None, None), False, 40),
        (("mid@ma",), 80.0, (0.25, 0.75), False, 60),
        (("mid@ma",), 80.0, (0.25, 0.75), True, 80),
        (("mid@ma",), 80.0, (1, 0), True, 0),  # nobody else has a share
        (("mid@ma", "mid@mb"), 80.0, (None, None), True, 0),
        (("web@a1",), 210.0, (None, None), False, 100 + 105),  # a turns 5 away, though C = 220
    ],
)
def test_demand_splits_by_fixed_shares_and_each_cell_serves_at_most_its_own(gone, demand, shares, reroute, served):
    one = lasting(celled(demand, shares=shares, reroute=reroute), *out(*gone))

    assert pytest.approx((demand - served) * HORIZON_S) == one["failed_requests"]


def test_three_equal_cells_lose_nothing_to_rounding():
    names = ["a", "b", "c"]
    env = Environment.model_validate(
        {
            "name": "three", "machines": [{"name": n} for n in names], "entry": "web", "demand": {"rate_per_s": 70.0},
            "services": {"web": {"on": names, "capacity_per_s": 100.0}}, "cells": {n: {"on": [n]} for n in names},
        }
    )  # fmt: skip

    assert (0, 1, 300) == tuple(lasting(env)[m] for m in ("failed_requests", "availability", "capacity_min"))


def test_one_cell_around_all_changes_nothing():
    env = celled(230.0)
    one = env.model_copy(update={"cells": {"all": env.cells["a"].model_copy(update={"on": (*env.cells["a"].on, *env.cells["b"].on)})}})
    none = env.model_copy(update={"cells": {}})

    for gone in ((), ("web@a1",), ("mid@ma",), ("web@a1", "web@a2", "web@b1")):
        assert lasting(none, *out(*gone)) == pytest.approx(lasting(one, *out(*gone)), nan_ok=True)


def test_an_instance_dead_in_the_pool_spoils_its_own_cell_only():
    """a1 is dead to the end: half of the 40 req/s of a fail."""
    env = celled(80.0, web={"health_check": {"interval_s": 1000.0, "fall": 2}})

    assert 40 / 2 * HORIZON_S == lasting(env, ("kill", "web@a1"))["failed_requests"]


def test_what_is_shared_spoils_all_cells():
    """One of two shared mids is dead: half of all fails; of what is left each cell serves up to its 200."""
    env = Environment.model_validate(
        {
            "name": "shared", "machines": [{"name": n} for n in ("a", "b", "m1", "m2")], "entry": "web", "demand": {"rate_per_s": 80.0},
            "services": {
                "web": {"on": ["a", "b"], "capacity_per_s": 100.0, "calls": {"mid": {}}},
                "mid": {"on": ["m1", "m2"], "health_check": {"interval_s": 1000.0, "fall": 2}},
            },
            "cells": {"a": {"on": ["a"]}, "b": {"on": ["b"]}},
        }
    )  # fmt: skip

    assert 40 * HORIZON_S == lasting(env, ("kill", "mid@m1"))["failed_requests"]


def test_a_dead_cell_is_rerouted_once_its_health_checks_have_noticed():
    """mid@ma dies: 40 of 80 req/s fail until the check notices, then b serves all."""
    env = celled(80.0, mid={"health_check": CHECK}, reroute=True)
    failed = run(Plan(environment=env, steps=(Step(id="s", begin=(("kill", "mid@ma"),)),), horizon_s=HORIZON_S), 200)["failed_requests"]

    assert 40 * 10 <= min(failed) and max(failed) <= 40 * 20
    assert abs(failed.mean() - 40 * 15) < 4 * 40 * (10 / 12**0.5) / 200**0.5  # four standard errors


def test_what_a_full_cell_turns_away_does_not_queue():
    """C = 240 is above the demand; b gets 150 and serves 120. With a store of 100 the rest waits, and has not failed."""
    for sql in (1000.0, 100.0):
        env = celled(200.0, shares=(0.25, 0.75), sql=sql)
        queued = env.model_copy(update={"demand": env.demand.model_copy(update={"excess": "queue", "patience_s": 1000.0})})

        assert 30 * HORIZON_S == pytest.approx(lasting(queued)["failed_requests"])


# mixed versions ------------------------------------------------------------------------------------------------------


PICKY = {"accepts": {"2": {"mid": ["2"]}}}


def mixed(*effects: tuple[Any, ...], mixing: str = "errors", **fields: Any) -> tuple[float, float]:
    """(share of the requests that fail, share of the time in which a forbidden pair serves) at 80 req/s; web 2 wants mid 2."""
    env = celled(80.0, mixing=mixing, web=fields.pop("web", PICKY), **fields)
    one = lasting(env, *effects)
    return one["failed_requests"] / 80 / HORIZON_S, one["incompatible_s"] / HORIZON_S


def new(*instances: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(("version", i, "2") for i in instances)


ONE_POOL: dict[str, Any] = {"cells": {}}


@pytest.mark.parametrize(
    ("effects", "fails"),
    [
        ((), 0),
        (new("web@a1"), 1 / 4),
        (new("web@a1", "mid@ma"), 1 / 4 * 1 / 2),
        (new("web@a1", "web@a2", "mid@ma", "mid@mb"), 0),
        ((*new("web@a1"), ("weight", "web@a1", 3)), 3 / 6),
        ((*new("web@a1"), ("weight", "web@a1", 0)), 0),
        ((*new("web@a1"), *out("web@a1")), 0),
        ((*new("web@a1", "mid@ma"), ("weight", "mid@ma", 3)), 1 / 4 * 1 / 4),
        ((*new("web@a1", "mid@ma"), *out("mid@mb")), 0),
    ],
)
def test_a_forbidden_pair_fails_the_requests_that_its_two_versions_share(effects, fails):
    assert (pytest.approx(fails), fails > 0) == mixed(*effects, **ONE_POOL)
    assert (0, fails > 0) == mixed(*effects, mixing="none", **ONE_POOL)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_forbidden_pair_fails_its_share_of_the_requests_however_often_they_call(calls):
    web = PICKY | {"calls": {"mid": {"times": calls}}}

    assert (pytest.approx(1 / 8), 1) == mixed(*new("web@a1", "mid@ma"), web=web, **ONE_POOL)


def test_what_a_bad_version_and_what_a_forbidden_pair_spoil_multiply():
    """One of four web boxes and one of two middle boxes are new and fail half of what they serve, or the web box alone is."""
    env = celled(80.0, mixing="errors", web=PICKY, **ONE_POOL)
    steps = (Step(id="s", duration={"fixed": HORIZON_S}, begin=new("web@a1", "mid@ma")),)
    release = {"p_bad": 1.0, "error_share": 0.5}
    plan = Plan(environment=env, steps=steps, release=release, horizon_s=HORIZON_S)
    web_alone = plan.model_copy(update={"steps": (steps[0].model_copy(update={"begin": new("web@a1")}),)})

    assert pytest.approx(80 * (1 - (1 - 1 / 4 * 1 / 2) * (1 - 1 / 2 * 1 / 2) * (1 - 1 / 8)) * HORIZON_S) == run(plan)["failed_requests"][0]
    assert pytest.approx(80 * (1 - (1 - 1 / 4 * 1 / 2) * (1 - 1 / 4)) * HORIZON_S) == run(web_alone)["failed_requests"][0]


def test_versions_meet_inside_their_cell_alone():
    assert (0, 0) == mixed(*new("web@a1", "mid@ma"))
    assert (pytest.approx(1 / 2 * 1 / 2), 1) == mixed(*new("web@a1", "mid@mb"))  # half of a's requests


def test_a_slow_version_gets_less_of_the_traffic():
    """By capacity a1 gets half a share of three and a half; evenly a quarter."""
    for balancing, fails in (("by_capacity", 0.5 / 3.5), ("even", 1 / 4)):
        env = celled(80.0, mixing="errors", web=PICKY | {"balancing": balancing}, **ONE_POOL)
        step = Step(id="s", duration={"fixed": HORIZON_S}, begin=new("web@a1"), slow=(("web@a1", 0.5),))
        one = run(Plan(environment=env, steps=(step,), horizon_s=HORIZON_S))

        assert pytest.approx(80 * fails * HORIZON_S) == one["failed_requests"][0]


def test_a_schema_is_met_by_all_who_do_not_accept_it_while_the_store_serves():
    mid = {"accepts": {"1": {"sql": ["1"]}}}
    changed = ("schema", "sql", "2")

    assert (1, 1) == mixed(changed, mid=mid)
    assert (pytest.approx(1 / 2), 1) == mixed(changed, *new("mid@ma"), mid=mid)
    assert (1, 0) == mixed(changed, *out("sql@sql"), mid=mid)  # all fail, for want of a store


def test_of_a_led_service_the_leader_alone_meets_anybody():
    mid = {"role": "leader_elected"}

    assert (pytest.approx(1 / 4), 1) == mixed(*new("web@a1", "mid@mb"), mid=mid, **ONE_POOL)
    assert (0, 0) == mixed(*new("web@a1", "mid@ma"), mid=mid, **ONE_POOL)


def test_a_soft_call_between_forbidden_versions_fails_nothing():
    web = PICKY | {"calls": {"mid": {"dependency": "soft"}}}

    assert (0, 1) == mixed(*new("web@a1"), web=web, **ONE_POOL)


def test_each_call_between_tiers_fails_by_itself():
    """A quarter of the calls of web to mid and half of those of mid to the store."""
    mid = {"accepts": {"1": {"sql": ["2"]}}}

    assert pytest.approx(1 - (1 - 1 / 4 * 1 / 2) * (1 - 1 / 2)) == mixed(*new("web@a1", "mid@ma"), mid=mid, **ONE_POOL)[0]
