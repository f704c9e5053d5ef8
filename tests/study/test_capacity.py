"""Capacity planning: closed forms, brute force over sizes, and starts over a day worked out by hand."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import random
import statistics

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from simdeploy.cli import main
from simdeploy.environment.curves import read_curve
from simdeploy.environment.demand import DAY_S
from simdeploy.environment.models import Environment
from simdeploy.errors import FileError, StudyError
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate
from simdeploy.study.capacity import capacity
from simdeploy.study.cheapest import cheapest
from simdeploy.study.latency import Enough, at_least, enough, erlang_c, wait, waits
from simdeploy.study.sizing import grown, headroom, needs, resized, tiers, with_sizes
from simdeploy.study.windows import WEEK_S, Window, begun_at, windows
from simdeploy.vetting.vet import vet
from tests.builders import farm, rolling

UPGRADE = "scenarios/canonical/upgrade.yaml"


def canonical() -> Scenario:
    return load_scenario(UPGRADE)


@pytest.mark.parametrize("servers", [1, 2, 5, 30, 170])
def test_erlang_c_is_the_sum_that_defines_it(servers):
    for busy in (0.01, 0.5, 0.9, 0.999):
        a = busy * servers
        terms = [math.exp(k * math.log(a) - math.lgamma(k + 1)) for k in range(servers + 1)]
        last = terms[servers] * servers / (servers - a)
        assert erlang_c(servers, a) == pytest.approx(last / (sum(terms[:servers]) + last), rel=1e-9)


def test_one_server_waits_as_m_m_1_does_and_a_queue_agrees():
    found = wait("web", "normal", 1, 80.0, 100.0, 1)
    assert found.p_wait == pytest.approx(0.8) and found.wait_s == pytest.approx(0.8 / 20) and found.response_s == pytest.approx(1 / 20)

    luck, free, waited, at = random.Random(1), [0.0] * 3, 0.0, 0.0
    n = 150_000
    for _ in range(n):  # three workers of 10 a second each, 24 arrivals a second: W = C(3, 2.4) / 6
        at += luck.expovariate(24.0)
        k = free.index(min(free))
        begins = max(at, free[k])
        waited += begins - at
        free[k] = begins + luck.expovariate(10.0)
    theory = wait("web", "normal", 3, 24.0, 10.0, 1).wait_s
    assert waited / n == pytest.approx(theory, rel=0.08)  # band: five standard errors of correlated waits, tried over ten seeds
    assert wait("web", "normal", 1, 24.0, 30.0, 3).wait_s == theory  # three workers of one instance are the same queue


def test_ninety_five_of_a_hundred_wait_no_longer_than_the_tail_says():
    """M/M/1 at 80 of 100 a second: P(wait > t) = 0.8 exp(-20 t) is 5 % at ln(16) / 20; at 4 of 100 fewer than 5 % wait at all."""
    assert wait("web", "normal", 1, 80.0, 100.0, 1).wait_p95_s == pytest.approx(math.log(16) / 20)
    assert wait("web", "normal", 1, 4.0, 100.0, 1).wait_p95_s == 0.0 < wait("web", "normal", 1, 4.0, 100.0, 1).wait_s
    assert wait("web", "normal", 1, 100.0, 100.0, 1).wait_p95_s == math.inf


def test_services_in_cells_are_no_single_queue():
    scenario = load_scenario("scenarios/partitions/upgrade-cells.yaml")
    assert waits(scenario.environment, headroom(scenario, "by-list")) == []


def test_of_ten_thousand_machines_enough_are_up_as_often_as_the_normal_law_says():
    half = (at_least(5_000, 10_000, 0.5) + at_least(5_001, 10_000, 0.5)) / 2
    assert half == pytest.approx(0.5, abs=1e-9)
    assert at_least(9_041, 10_000, 0.9) == pytest.approx(1 - statistics.NormalDist(9_000, 30).cdf(9_040.5), abs=1e-3)


def test_what_cannot_be_served_waits_for_ever():
    assert wait("web", "normal", 1, 100.0, 100.0, 1).wait_s == math.inf and erlang_c(2, 2.0) == 1.0
    assert wait("web", "lost", 0, 1.0, 100.0, 1).utilisation == math.inf
    with pytest.raises(StudyError, match="no queue"):
        erlang_c(0, 1.0)


@given(st.integers(1, 7), st.floats(0.0, 1.0))
def test_enough_machines_up_by_listing_all_states(machines, up):
    for needed in range(machines + 2):
        listed = math.fsum(
            math.prod(up if yes else 1 - up for yes in state)
            for state in itertools.product((True, False), repeat=machines)
            if sum(state) >= needed
        )
        assert at_least(needed, machines, up) == pytest.approx(listed, abs=1e-12)


def test_machines_that_die_are_up_mtbf_of_mtbf_and_repair():
    env = farm(3, 100.0, 150.0)
    machines = tuple(m.model_copy(update={"mtbf_s": 900.0, "repair": rolling(["web@w0"], 100.0)[0].duration}) for m in env.machines)
    [found] = enough(env.model_copy(update={"machines": machines}))

    assert (found.needed, found.up) == (2, 0.9) and found.enough == pytest.approx(3 * 0.81 * 0.1 + 0.729)
    assert enough(env) == []


def test_headroom_by_hand():
    """Two middle boxes of 200 req/s at 1.5 calls: 266.7 at the front door, 133.3 while one is out, nothing with the other lost."""
    rooms = {h.service: h for h in headroom(canonical(), "drain-expand-parallel")}
    middle = rooms["middle"]

    assert middle.steady_per_s == pytest.approx(2 * 200 / 1.5) and middle.upgrade_per_s == pytest.approx(200 / 1.5)
    assert middle.lost_per_s == 0.0 and middle.growth == 0.0


def test_what_was_carried_before_a_disaster_is_steady():
    """All of it is lost, and 166.7 req/s (500 of sql at 3 calls) were carried; nothing while it is restored."""
    scenario = load_scenario("scenarios/canonical/disaster-recovery.yaml")
    door, *_ = headroom(scenario, "nightly")

    assert (door.steady_per_s, door.upgrade_per_s, door.lost_per_s) == (pytest.approx(500 / 3), 0.0, 0.0)


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0, 3.0])
def test_a_tier_needs_what_demand_takes_and_one_out_and_one_lost(growth):
    """One by one: n - 2 boxes must carry growth x 130 req/s: web 300 each, middle 200 / 1.5 each."""
    found = {n.tier: n for n in needs(canonical(), "drain-expand-parallel", (growth,))}

    assert found["web"].carries == math.ceil(growth * 130 / 300) and found["web"].needs == found["web"].carries + 2
    assert found["middle"].carries == math.ceil(growth * 130 * 1.5 / 200) and found["middle"].needs == found["middle"].carries + 2
    assert found["sql"].needs is None and "one carries 166.7 req/s" in found["sql"].why


def test_the_least_number_is_the_least_by_brute_force_over_sizes():
    scenario, strategy = canonical(), "tier-at-once-expand"
    assert {n.tier: n.needs for n in needs(scenario, strategy, (1.0,))} == {"web": None, "middle": None, "sql": None}
    scenario, strategy = canonical(), "drain-expand"
    for tier in ("web", "middle"):
        kept = {}
        for size in range(1, 7):
            floors = vet(build_plan(with_sizes(scenario, {tier: size}), strategy)).floors
            [kept[size]] = [f.machine_lost_per_s for f in floors if f.service == tier]
        least = min(size for size, floor in kept.items() if floor is not None and floor >= 130.0)
        assert least == next(n.needs for n in needs(scenario, strategy, (1.0,)) if n.tier == tier)


def test_the_cheapest_sizes_are_the_cheapest_by_brute_force():
    scenario, strategy = canonical(), "drain-expand-parallel"
    found = cheapest(scenario, strategy, 100)
    meeting = [
        (web + middle, web, middle)
        for web, middle in itertools.product(range(1, 4), repeat=2)
        if all(
            g.met for g in simulate(build_plan(with_sizes(scenario, {"web": web, "middle": middle}), strategy), 100).goals()
        )
    ]  # fmt: skip
    assert found.sizes is not None and sum(found.sizes.values()) == min(meeting)[0]
    assert (sum(found.sizes.values()), found.sizes["web"], found.sizes["middle"]) in meeting
    fixed = 6 - 4  # sql1 and mon1; lb is hosted
    assert found.machine_hours_per_day == 24 * (fixed + min(meeting)[0])
    assert "5 replications cannot tell whether" in cheapest(scenario, strategy, 5).why
    assert cheapest(scenario, "all-at-once", 100).why.startswith("none of 100 sizes meets all goals; not met with web 9 and middle ")


def test_tiers_whose_machines_a_strategy_names_stay_and_the_others_are_searched():
    """The slices of the fleet's strategies name web's and api's machines. Beside the three tiers there are 3 sql and 2 mon."""
    scenario = load_scenario("scenarios/fleet/upgrade.yaml")
    found = cheapest(scenario, "plan-5-back", 40)
    for sizes in ({"web": 59}, {"web": 61}, {"api": 9}, {"api": 11}):
        with pytest.raises(StudyError):
            with_sizes(scenario, sizes)
    meeting = [
        middle
        for middle in range(1, 13)
        if all(g.met for g in simulate(build_plan(with_sizes(scenario, {"middle": middle}), "plan-5-back"), 40).goals())
    ]
    assert found.sizes == {"web": 60, "api": 10, "middle": min(meeting)} and found.kept == ("web", "api")
    assert found.machine_hours_per_day == 24 * (60 + 10 + min(meeting) + 3 + 2)


def test_a_tier_that_cannot_have_what_the_demand_takes_is_named():
    """Sixty web boxes of 25 req/s carry 1,500, and no other number can be."""
    found = cheapest(load_scenario("scenarios/fleet/upgrade.yaml"), "plan-5-back", 40, growth=1.6)
    assert found.sizes is None and found.tried == 0
    assert found.why == "web would need 64 machines at least, and 'plan-5-back' runs with no such number"


TWO_TIERS = """
name: e
machines: [{name: w1}, {name: w2}, {name: m1}, {name: m2}]
entry: web
demand: {rate: 100 req/s}
services:
  web:
    on: [w1, w2]
    capacity: 60 req/s
    calls: {mid: 1}
    actions: &a {drain: {duration: 1 s}, install: {duration: 5 s}, start: {duration: 9 s}}
  mid: {on: [m1, m2], capacity: 40 req/s, actions: *a}
"""


def test_a_tier_that_misses_a_goal_on_capacity_is_not_tried_with_all_sizes_of_the_others(tmp_path):
    """Web one by one: n - 1 boxes of 60 carry 190 from 5 on. Half of mid at once, rounded down: of 9 boxes 5 are left, of 40 each."""
    (tmp_path / "e.yaml").write_text(TWO_TIERS)
    (tmp_path / "u.yaml").write_text(
        'scenario: upgrade\nenvironment: e.yaml\nto: {web: "2", mid: "2"}\ngoals: [min(capacity_min) >= 190 req/s]\n'
        "strategies: {s: {services: {web: {batches: 1}, mid: {batches: 50 %}}, order: [mid, web]}}\n"
    )
    scenario = load_scenario(tmp_path / "u.yaml")
    found = cheapest(scenario, "s", 20)
    meeting = {
        (web, mid)
        for web, mid in itertools.product(range(2, 8), range(2, 13))
        if simulate(build_plan(with_sizes(scenario, {"web": web, "mid": mid}), "s"), 20).goals()[0].met
    }
    assert found.sizes == {"web": 5, "mid": 9} and (5, 9) in meeting and min(map(sum, meeting)) == 14
    assert found.tried == 1  # each tier by itself before, from what carries 190 req/s on


def test_where_no_tier_can_change_the_table_says_so():
    found = capacity(load_scenario("scenarios/partitions/upgrade-patch-onebox.yaml"), replications=20)

    assert found.cheapest is not None and found.cheapest.sizes == {}
    assert "as it is; no tier can change its number of machines" in " ".join(str(found._repr_mimebundle_()["text/plain"]).split())


def farm_upgrade(folder: pathlib.Path, boxes: dict[str, int], goal: str) -> Scenario:
    """Tiers of so many boxes of 10 req/s that call each other once, half of each upgraded at once; 600 req/s are wanted."""
    names = list(boxes)
    machines = [f"{{name: {t}{k}}}" for t in names for k in range(boxes[t])]
    lines = [f"name: e\nmachines: [{', '.join(machines)}]\nentry: {names[0]}\ndemand: {{rate: 600 req/s}}\nservices:"]
    for tier, below in itertools.zip_longest(names, names[1:]):
        calls = f", calls: {{{below}: 1}}" if below else ""
        on, actions = (
            ", ".join(f"{tier}{k}" for k in range(boxes[tier])),
            "{drain: {duration: 1 s}, install: {duration: 5 s}, start: {duration: 9 s}}",
        )
        lines.append(f"  {tier}: {{on: [{on}], capacity: 10 req/s, actions: {actions}{calls}}}")
    (folder / "e.yaml").write_text("\n".join(lines))
    to, batches = ", ".join(f'{t}: "2"' for t in names), ", ".join(f"{t}: {{batches: 50 %}}" for t in names)
    strategy = f"{{services: {{{batches}}}, order: [{', '.join(reversed(names))}]}}"
    head = f"scenario: upgrade\nenvironment: e.yaml\nto: {{{to}}}\ngoals: ['{goal}']\n"
    (folder / "u.yaml").write_text(f"{head}strategies: {{s: {strategy}}}\n")
    return load_scenario(folder / "u.yaml")


def test_sizes_between_the_least_and_todays_are_tried_too(tmp_path):
    """Half of n boxes, rounded down, are out: n - n // 2 of 10 carry 600 req/s from n = 119 on, of 200 today."""
    assert min(n for n in range(60, 201) if n - n // 2 >= 60) == 119
    found = cheapest(farm_upgrade(tmp_path, {"a": 200}, "min(capacity_min) >= 600 req/s"), "s", 3)
    assert (found.sizes, found.kept, found.why) == ({"a": 119}, (), "")


def test_where_the_tries_run_out_todays_sizes_are_tried_and_the_answer_says_so(tmp_path):
    """With a goal on failed requests no tier is looked at alone; with one on capacity each is, and 60 tries each are too many."""
    found = cheapest(farm_upgrade(tmp_path, {"a": 130, "b": 130}, "max(failed_requests) <= 0"), "s", 2)
    assert found.sizes == {"a": 130, "b": 130} and found.tried == 101
    assert found.why == "as it is; 100 cheaper sizes were tried, and others between were not"
    found = cheapest(farm_upgrade(tmp_path, {"a": 130, "b": 130}, "min(capacity_min) >= 600 req/s"), "s", 2)
    assert found.sizes is not None and all(n - n // 2 >= 60 for n in found.sizes.values())


def test_a_tier_that_shares_a_machine_with_another_keeps_its_number():
    env = canonical().environment
    services = env.services | {"web": env.services["web"].model_copy(update={"on": ("web1", "web2", "mid1")})}
    shared = env.model_copy(update={"services": services})

    assert {t.name: t.scales for t in tiers(shared)} == {"web": False, "middle": False, "sql": False}


def test_a_size_of_which_nobody_can_tell_does_not_end_the_search(tmp_path):
    """Five runs have no 99th percentile, so that of no size anybody can tell: all are tried, and the first is named."""
    found = cheapest(farm_upgrade(tmp_path, {"a": 130}, "p99(makespan_s) <= 1 h"), "s", 5)
    assert found.sizes is None and found.why.startswith("5 replications cannot tell whether p99(makespan_s) <= 1 h is met with a 60")
    assert found.tried > 60


def test_a_metric_without_a_value_is_not_met_and_no_more_replications_would_tell():
    """Nothing fails over or is restored here, so that there is no time to recover."""
    scenario = canonical()
    goal = {"goals": ["p95(rto_s) <= 1 h"]}
    asked = type(scenario).model_validate({f: getattr(scenario, f) for f in type(scenario).model_fields} | goal)
    found = cheapest(asked, "drain-expand", 20)
    assert found.sizes is None and "cannot tell" not in found.why and "p95(rto_s) <= 1 h" in found.why


@pytest.mark.parametrize("horizon", ["", "horizon: 2 h"])
def test_another_strategy_that_names_machines_does_not_hinder_the_search(tmp_path, horizon):
    text = pathlib.Path(UPGRADE).read_text().replace("production.yaml", str(pathlib.Path(UPGRADE).parent.absolute() / "production.yaml"))
    named = "strategies:\n  named: {slices: [[web1, mid1], [web2, mid2]], services: {sql: {migration: expand_contract}}}\n"
    (tmp_path / "upgrade.yaml").write_text(text.replace("strategies:\n", f"{horizon}\n{named}"))
    found = cheapest(load_scenario(tmp_path / "upgrade.yaml"), "drain-expand", 100, growth=1.05)  # 136.5 req/s, a middle box 133.3
    assert found.sizes == {"web": 2, "middle": 3}


def test_what_is_left_over_is_what_is_carried_less_the_demand():
    found = capacity(canonical(), "drain-expand-parallel", growths=(1.0, 1.5), replications=20)
    for room in found.headroom:
        for spare in (s for s in found.spare if s.service == room.service):
            carried = (room.steady_per_s, room.upgrade_per_s, room.lost_per_s)
            left = (spare.steady_per_s, spare.upgrade_per_s, spare.lost_per_s)
            assert left == tuple(None if c is None else c - 130.0 * spare.growth for c in carried)
    assert [(s.growth, s.demand_per_s) for s in found.spare if not s.service] == [(1.0, 130.0), (1.5, 195.0)]


def test_where_a_strategy_names_machines_today_s_number_is_judged_and_the_reason_is_one_line():
    """Sixty web boxes of 25 req/s, of which six are out at once and one is lost: 53 x 25 = 1,325 of 1,000."""
    today, more = (n for n in needs(load_scenario("scenarios/fleet/upgrade.yaml"), "plan-5-back", (1.0, 1.5)) if n.tier == "web")
    assert (today.carries, today.needs, more.needs) == (40, 60, None)
    assert today.why.startswith("it has enough; of fewer nothing can be said: ") and "\n" not in today.why + more.why


def test_sizes_that_cannot_be_are_refused():
    scenario = canonical()
    with pytest.raises(StudyError, match="those of 'canonical' are: web, middle"):
        resized(scenario.environment, {"sql": 2})
    with pytest.raises(StudyError, match="a tier has one at least"):
        resized(scenario.environment, {"web": 0})
    with pytest.raises(StudyError, match="has no goals"):
        cheapest(scenario.model_copy(update={"goals": ()}), "drain-expand")


def test_a_tier_that_grows_and_shrinks_back_is_what_it_was():
    env = canonical().environment
    larger = resized(env, {"web": 5})
    assert len(larger.services["web"].on) == 5 and len(larger.machines) == len(env.machines) + 3
    back = resized(larger, {"web": 2})
    assert back.model_dump(exclude={"inputs"}) == env.model_dump(exclude={"inputs"})
    assert [t.name for t in tiers(env)] == ["web", "middle", "sql"] and grown(env, 2.0).demand.peak_per_s == 260.0


def test_a_tier_grows_and_shrinks_evenly_over_its_zones():
    def zones(*of: str) -> Environment:
        env = farm(len(of), 100.0, 1.0)
        machines = tuple(m.model_copy(update={"zone": zone}) for m, zone in zip(env.machines, of, strict=True))
        return env.model_copy(update={"machines": machines})

    def after(size: int, *of: str) -> list[str | None]:
        return sorted(m.zone or "" for m in resized(zones(*of), {"web": size}).machines)

    assert after(5, "a", "b", "c", "a") == ["a", "a", "b", "b", "c"]
    assert after(7, "a", "a", "b") == ["a", "a", "a", "a", "b", "b", "b"]
    assert after(2, "a", "a", "b", "b") == ["a", "b"]


def test_why_an_environment_cannot_grow_is_one_line():
    cells = load_scenario("scenarios/partitions/upgrade-cells.yaml").environment
    with pytest.raises(StudyError, match=r"cannot have web 9: .* is in no cell.* \(and 2 more of that kind\)") as refused:
        resized(cells, {"web": 9})
    assert "\n" not in str(refused.value)


def daily(levels: list[tuple[float, float]]) -> Plan:
    """One of two boxes of 100 req/s is out for an hour."""
    env = farm(2, 100.0, 1.0)
    demand = type(env.demand).model_validate({"daily": [{"at_s": at, "rate_per_s": rate} for at, rate in levels]})
    return Plan(environment=env.model_copy(update={"demand": demand}), steps=rolling(["web@w0"], 3600.0), horizon_s=3600.0)


def test_when_to_begin_by_hand():
    """150 req/s from 08:00 to 20:00, 50 at night: while one box is out in the day 50 req/s fail for an hour."""
    found = windows(daily([(0.0, 50.0), (8 * 3600.0, 150.0), (20 * 3600.0, 50.0)]), replications=2)
    failed = {w.hour: w.failed_requests for w in found.tried}

    assert failed == {h: (180_000.0 if 8 <= h < 20 else 0.0) for h in range(24)}
    assert [w.hour for w in found.best] == [*range(8), *range(20, 24)] and found.cycle_s == DAY_S
    assert {w.hour for w in found.tried if w.risk} == set(range(8, 20))


@pytest.mark.parametrize("at_h", [0, 5, 23])
def test_a_curve_goes_on_from_where_the_plan_begins_and_comes_round(at_h):
    plan = daily([(3600.0 * 2, 10.0), (3600.0 * 6, 20.0), (3600.0 * 22, 30.0)])
    begun = begun_at(plan, [(x.at_s, x.rate_per_s) for x in plan.environment.demand.daily], 3600.0 * at_h, DAY_S, 3 * DAY_S)

    expected = {}
    for hour in range(3 * 24):
        now = (at_h + hour) % 24
        expected[3600.0 * hour] = 30.0 if now < 2 or now >= 22 else 10.0 if now < 6 else 20.0
    levels = begun.environment.demand.levels(3 * DAY_S)
    assert {t: [rate for since, rate in levels if since <= t][-1] for t in expected} == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"growths": (1.0, -1.0)}, "-1 times the demand is no growth"),
        ({"growths": (math.nan,)}, "nan times the demand"),
        ({"replications": 0}, "0 replications are none"),
        ({"curve": []}, "no moments"),
    ],
)
def test_what_cannot_be_planned_is_said(asked, said):
    with pytest.raises(StudyError, match=said):
        capacity(canonical(), "drain-expand", **{"replications": 5, **asked})


@pytest.mark.parametrize(("bound", "risky"), [(180_000, set()), (179_999, set(range(8, 20)))])
def test_of_a_plan_with_goals_the_risk_is_to_break_one(bound, risky):
    plan = daily([(0.0, 50.0), (8 * 3600.0, 150.0), (20 * 3600.0, 50.0)])
    goals = ["mean(makespan_s) <= 1 d", f"P(failed_requests <= {bound}) >= 90 %"]
    found = windows(Plan.model_validate({**plan.model_dump(mode="json", by_alias=True), "goals": goals}), replications=2)
    assert {w.hour: w.risk for w in found.tried} == {h: float(h in risky) for h in range(24)}


def test_a_curve_may_be_of_a_week(tmp_path):
    file = tmp_path / "week.csv"
    file.write_text("time_s,rate_per_s\n0,150\n" + f"{5 * DAY_S},40\n")
    found = windows(daily([(0.0, 50.0)]), read_curve(file, WEEK_S), replications=2)

    assert len(found.tried) == 7 * 24 and {w.day for w in found.best} == {"Sat", "Sun"}
    assert sum(w.failed_requests > 0 for w in found.tried) == 5 * 24
    assert found.tried[4 * 24 + 23].failed_requests == 180_000.0  # Friday 23:00 ends with Friday


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "no column time_s and no rate_per_s"),
        ("a,rate_per_s\n", 1, "no column time_s"),
        ("time_s,rate_per_s\n", 1, "no line below"),
        ("time_s,rate_per_s\n5,1\n", 2, "first is at 0"),
        ("time_s,rate_per_s\n0,1\n0,2\n", 3, "times must rise"),
        ("time_s,rate_per_s\n0,x\n", 2, "no pair of numbers"),
        ("time_s,rate_per_s\n0,-1\n", 2, "rate from 0 on"),
        ("time_s,rate_per_s\n0,nan\n", 2, "rate from 0 on"),
        ("time_s,rate_per_s\n0,1\n700000,1\n", 3, "not before 604800 s"),
    ],
)
def test_a_curve_that_is_none_says_where(tmp_path, text, line, says):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(FileError, match=rf"c.csv:{line}:1: .*{says}"):
        read_curve(tmp_path / "c.csv", WEEK_S)


def test_a_demand_that_never_changes_has_no_best_hour():
    with pytest.raises(StudyError, match="has no daily curve"):
        windows(build_plan(canonical(), "drain-expand"))


def test_the_command_prints_tables_json_and_csv(tmp_path):
    run = CliRunner().invoke
    said = run(main, ["capacity", UPGRADE, "--strategy", "drain-expand", "-n", "20", "--plot", str(tmp_path)])
    assert said.exit_code == 0 and "Machines that each tier needs" in said.output and (tmp_path / "headroom.png").exists()
    assert max(map(len, said.stdout.splitlines())) <= 80
    told = json.loads(run(main, ["capacity", UPGRADE, "--strategy", "drain-expand", "-n", "20", "--format", "json"]).stdout)
    assert told["strategy"] == "drain-expand" and {n["tier"] for n in told["needs"]} == {"web", "middle", "sql"}
    csv = run(main, ["capacity", UPGRADE, "--strategy", "drain-expand", "-n", "20", "--format", "csv", "--part", "needs"]).stdout
    assert csv.splitlines()[0] == "tier,growth,has,carries,needs,why"
    for words in (["--format", "csv"], ["--strategy", "x"], ["--demand", str(tmp_path / "none.csv")], ["--growth", "0"]):
        wrong = run(main, ["capacity", UPGRADE, *words])
        assert wrong.exit_code == 2 and "Traceback" not in wrong.output


def test_every_part_is_a_tidy_frame():
    found = capacity(canonical(), "drain-expand", (1.0, 2.0), replications=20)
    assert len(found.frame("needs")) == 6 and set(found.frame("waits")["service"]) == {"web", "middle"} and found.frame("windows").empty
    assert list(found.frame("windows").columns) == list(Window._fields) and list(found.frame("enough").columns) == list(Enough._fields)
    assert len(waits(found.environment, found.headroom)) == 6 and "<table>" in found._repr_mimebundle_()["text/html"]
    assert pathlib.Path(UPGRADE).exists()
