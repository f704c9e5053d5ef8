"""Leaders that are elected through a store: leases run out and nobody is elected while it takes no writes."""

from __future__ import annotations

from typing import Any

import pytest

from simdeploy.environment.durations import fixed
from simdeploy.environment.models import Environment
from simdeploy.errors import InvalidDocument
from simdeploy.plan.following import measure
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.simulation.outcome import trace
from tests.builders import run

LEASE_S, ELECT_S = 5.0, 3.0


def environment(calls: bool = False, app: dict[str, Any] | None = None, **db: Any) -> Environment:
    """app (leader-elected, 2 x 100 req/s) at 40 req/s; its leaders are elected through db (2 x 100), which it calls or not."""
    election = {"detect_s": LEASE_S, "elect_s": ELECT_S}
    base: dict[str, Any] = {
        "on": ["a", "b"],
        "capacity_per_s": 100.0,
        "role": "leader_elected",
        "elected_through": "db",
        "election": election,
    }
    return Environment.model_validate(
        {
            "name": "leases",
            "machines": [{"name": n} for n in ("a", "b", "c", "d", "e", "c2")],
            "entry": "app",
            "demand": {"rate_per_s": 40.0},
            "services": {
                "app": base | ({"calls": {"db": {}}} if calls else {}) | (app or {}),
                "db": {"on": ["c", "d"], "capacity_per_s": 100.0, "role": "datastore"} | db,
            },
        }
    )


def step(name: str, seconds: float = 0.0, *after: str, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), after=after, **fields)


def told(env: Environment, *steps: Step, **fields: Any) -> tuple[dict[str, float | None], list[tuple[float, str, str]]]:
    """The metrics of the only run, which are those of the fold over its trace, and what the world did."""
    plan = Plan(environment=env, steps=steps, horizon_s=100.0, **fields)
    online = {m: None if v[0] != v[0] else v[0] for m, v in run(plan).items()}
    records = trace(plan)
    assert measure(plan, records).values == pytest.approx(online)
    return online, [(r.at_s, r.kind, r.subject) for r in records if r.kind in ("expired", "elected")]


def lock(seconds: float, factor: float = 0.0) -> Step:
    return step("lock", seconds, slow=(("db@c", factor),))


@pytest.mark.parametrize("role", [{}, {"role": "quorum", "serves": "leader", "on": ["a", "b"]}])
@pytest.mark.parametrize(("calls", "down_s"), [(False, 6), (True, 11)])
def test_a_lock_that_outlasts_the_lease_costs_the_leader_and_then_an_election(role, calls, down_s):
    """Locked from 0 to 8 s, the lease is over at 5 s, a leader is there at 11 s. Called, the store is missed from 0 s on."""
    one, world = told(environment(calls, role), lock(8.0))

    assert [(5, "expired", "app"), (11, "elected", "app")] == world
    assert (down_s, 0, 40 * down_s) == (one["downtime_s"], one["failovers"], pytest.approx(one["failed_requests"]))


@pytest.mark.parametrize("seconds", [4.0, 5.0])
def test_a_lock_that_ends_with_the_lease_or_before_costs_no_leader(seconds):
    one, world = told(environment(), lock(seconds))

    assert (0, []) == (one["downtime_s"], world)


def test_a_store_that_is_only_slow_takes_writes():
    assert [] == told(environment(), lock(30.0, 0.01))[1]


def test_a_second_lock_gives_a_whole_lease_again():
    """Locked 0 to 4 s and 5 to 9 s: never for 5 s on end."""
    again = (step("pause", 1.0, "lock"), step("lock2", 4.0, "pause", slow=(("db@c", 0.0),)))

    assert [] == told(environment(), lock(4.0), *again)[1]


def test_an_election_that_would_end_while_the_store_is_locked_elects_nobody():
    """a is killed at 0 s: its loss is noticed at 5 s and b would lead at 8 s; the lock ends at 20 s."""
    one, world = told(environment(), lock(20.0), step("kill", begin=(("kill", "app@a"),)))

    assert [(23, "elected", "app")] == world
    assert (23, 1) == (one["downtime_s"], one["failovers"])


def test_an_election_that_ends_when_the_lock_is_over_is_held():
    """a is killed at 0 s, b leads at 8 s; the lock ended at 7 s and no second election began."""
    one, world = told(environment(), lock(7.0), step("kill", begin=(("kill", "app@a"),)))

    assert [(8, "elected", "app")] == world and 8 == one["downtime_s"]


def test_a_leader_that_a_step_installs_meanwhile_holds_one_lease():
    """Handed over to b from 1 s to 3 s of a lock to 20 s: b gives up at 8 s."""
    moves = step("move", 2.0, "wait", begin=(("lead", "app", None),), end=(("lead", "app", "app@b"),))

    one, world = told(environment(), lock(20.0), step("wait", 1.0), moves)

    assert [(8, "expired", "app"), (23, "elected", "app")] == world
    assert 2 + 15 == one["downtime_s"]


def test_nobody_is_elected_until_a_member_serves():
    """Both are out from 0 s, a is back at 30 s, after the lock."""
    away = step("away", 30.0, begin=(("out", "app@a"), ("out", "app@b")), end=(("serve", "app@a"),))

    assert [(33, "elected", "app")] == told(environment(), lock(20.0), away)[1]


@pytest.mark.parametrize(
    ("db", "take", "expires"),
    [
        ({}, "kill", True),  # for good
        ({"failover": "automatic", "election": {"detect_s": 2.0, "elect_s": 2.0}}, "kill", False),  # for 4 s
        ({"failover": "automatic", "election": {"detect_s": 2.0, "elect_s": 4.0}}, "drain", True),  # for 6 s
    ],
)
def test_a_store_without_its_primary_takes_no_writes_until_it_has_another(db, take, expires):
    _, world = told(environment(**db), step("take", begin=((take, "db@c"),)))

    assert expires == ((5, "expired", "app") in world)


def test_a_store_whose_lead_moves_takes_no_writes_meanwhile():
    moves = step("move", 9.0, begin=(("lead", "db", None),), end=(("lead", "db", "db@d"),))

    assert [(5, "expired", "app"), (12, "elected", "app")] == told(environment(), moves)[1]


def test_a_split_store_takes_writes_while_any_instance_does():
    """Split until 20 s, the primary locked from 0 s to 30 s: the lease runs from the join on."""
    apart = (step("split", begin=(("split", "db"),)), step("join", 20.0, "split", end=(("join", "db"),)))

    assert [(25, "expired", "app"), (33, "elected", "app")] == told(environment(), lock(30.0), *apart)[1]


def test_a_store_that_is_down_at_the_start_lets_the_first_lease_run_out():
    _, world = told(environment(), step("wait", 1.0), start=Start(out=("db@c", "db@d")))

    assert [(5, "expired", "app")] == world


@pytest.mark.parametrize(("failover", "at_risk_s"), [("manual", 0), ("automatic", 60)])
def test_a_machine_on_which_all_leases_hang_counts_as_one_more_loss(failover, at_risk_s):
    """Without d the loss of c ends the leases: with manual failover that was so from the start."""
    out = step("out", 60.0, begin=(("out", "db@d"),), end=(("serve", "db@d"),))

    assert at_risk_s == told(environment(failover=failover), out)[0]["single_fault_s"]


def test_while_the_store_is_locked_the_loss_of_the_leader_is_not_survived_and_that_of_another_is():
    """Locked for 4 s, within the lease."""
    assert 4 == told(environment(), lock(4.0))[0]["single_fault_s"]


def test_that_a_store_will_have_another_primary_is_taken_as_settled():
    """c is out and d leads at 4 s, within the lease; c is back at 60 s. Meanwhile all hangs on d, and on nothing else."""
    db = {"failover": "automatic", "election": {"detect_s": 3.0, "elect_s": 1.0}}
    out = step("out", 60.0, begin=(("out", "db@c"),), end=(("serve", "db@c"),))
    three = {"on": ["a", "b", "c2"]}

    assert 60 == told(environment(**db), out)[0]["single_fault_s"]
    assert 0 == told(environment(**db | {"on": ["c", "d", "e"]}, app=three), out)[0]["single_fault_s"]


@pytest.mark.parametrize(
    ("app", "place", "says"),
    [
        ({"elected_through": "dbs"}, "elected_through", "'dbs', which is no service; did you mean 'db'"),
        ({"elected_through": "mon"}, "elected_through", "'mon', which is monitoring; it takes a datastore: there are db"),
        ({"elected_through": "app"}, "elected_through", "elected through itself; name a datastore: there are db"),
        ({"role": "stateless"}, "elected_through", "stateless and elects no leader"),
        ({"role": "quorum"}, "elected_through", "quorum that serves with all and elects no leader"),
        ({"role": "datastore"}, "elected_through", "datastore and elects no leader"),
    ],
)
def test_leaders_are_elected_through_a_datastore_and_only_where_there_are_any(app, place, says):
    good = environment().model_dump()
    good["services"]["mon"] = {"on": ["d"], "role": "monitoring"}
    good["services"]["app"] |= app

    with pytest.raises(InvalidDocument) as error:
        Environment.model_validate(good)

    [problem] = error.value.problems
    assert ("services", "app", place) == problem.path and says in problem.message
