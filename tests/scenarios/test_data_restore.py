"""Data restores: the founding reference plan, pencil figures of each way back, and laws over strategies and luck."""

# ruff: noqa: E501 (a list of mistakes reads better in wide rows)
from __future__ import annotations

import json

import numpy as np
import pytest

from simdeploy.errors import FileError
from simdeploy.planning.kinds import build_plan, build_plans
from simdeploy.planning.loading import load_scenario
from tests.builders import run
from tests.reference.adapter import PLANS

ENVIRONMENT = """
name: small
machines:
  - {name: lb1, hosted: true}
  - {name: web1}
  - {name: web2}
  - {name: mid1}
  - {name: mid2}
  - {name: sql1}
  - {name: mon1}
entry: lb
demand: {rate: 100 req/s}
recovery: {detect: 120 s, decide: 300 s, validate: 180 s}
actions: {allocate: {duration: 600 s}}
services:
  lb: {on: [lb1], calls: {web: 1}}
  web: {on: [web1, web2], capacity: 300 req/s, calls: {mid: 1.5}}
  mid: {on: [mid1, mid2], capacity: 200 req/s, calls: {sql: 2}, actions: {repoint: {duration: 60 s}}}
  sql:
    role: datastore
    on: [sql1]
    capacity: 500 req/s
    failover: %(failover)s
    election: {detect: 10 s, elect: 5 s}
    actions:
      install: {duration: 0 s}
      promote: {duration: 30 s}
    store:
      size: 100 GB
      restore_rate: 50 MB/s
      writes: 10 req/s
%(store)s
      copies: [{kind: backup, every: 24 h, takes: 30 min}]
  mon: {role: monitoring, on: [mon1]}
"""
BACKUP = "{kind: backup, every: 24 h, takes: 30 min}"
ARCHIVE = "{kind: log_archive, closes_every: 5 min, ships_in: 10 s}"
LOG = "      log_rate: 1 MB/s\n      replay_rate: 20 MB/s"


@pytest.fixture
def restores(tmp_path):
    """Strategy -> plan of a data restore in the environment above."""

    def build(strategies="{as-it-is: {}}", disruption="{lose: machine}", more="", failover="automatic", log=True, change=None):
        text = ENVIRONMENT % {"failover": failover, "store": LOG if log else ""}
        for old, new in (change or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "env.yaml").write_text(text)
        (tmp_path / "it.yaml").write_text(
            f"scenario: data_restore\nenvironment: env.yaml\ndisruption: {disruption}\n{more}\nstrategies: {strategies}\n"
        )
        return build_plans(load_scenario(tmp_path / "it.yaml"))

    return build


def one(plan, replications=1):
    return {name: values[0] for name, values in run(plan).items()} if replications == 1 else run(plan, replications)


def test_a_restore_from_a_backup_alone_gives_the_founding_numbers(restores):
    wanted = json.loads((PLANS / "restore-backup-only.json").read_text())["metrics"]
    assert "success" == wanted.pop("outcome")
    wanted["out_at_end"] -= 1  # there the lost instance counts to the end; here a new one has taken its place

    found = one(restores(log=False, more="horizon: 3260 s")["as-it-is"])

    assert {name: pytest.approx(value) for name, value in wanted.items()} == {name: found[name] for name in wanted}
    assert 1 == found["success"]


def strategies(**copies):
    return "{" + ", ".join(f"{name}: {{copies: [{', '.join(listed)}]}}" for name, listed in copies.items()) + "}"


def standby(**keys):
    return "{kind: standby" + "".join(f", {key}: {value}" for key, value in keys.items()) + "}"


def test_a_log_is_replayed_from_the_newest_backup_up_to_the_last_segment_at_its_own_rate(restores):
    plans = restores(strategies(nightly=[BACKUP], archive=[BACKUP, ARCHIVE]))
    nightly, archive = (run(plans[name], 200) for name in ("nightly", "archive"))

    # a second of log is 1 MB and takes a twentieth of a second
    replayed_s = archive["rto_s"] - nightly["rto_s"]
    assert replayed_s == pytest.approx((nightly["data_loss_s"] - archive["data_loss_s"]) / 20)
    assert nightly["rto_s"] == pytest.approx(120 + 300 + 600 + 2000 + 60 + 180)
    assert nightly["lost_writes"] == pytest.approx(10 * nightly["data_loss_s"])


def test_a_strategy_may_read_back_and_replay_at_rates_of_its_own(restores):
    dump = BACKUP.replace("}", ", begins_at: 01:00}")
    plans = restores(
        f"{{slow: {{copies: [{dump}, {ARCHIVE}]}}, quick: {{copies: [{dump}, {ARCHIVE}], restore_rate: 200 MB/s, replay_rate: 50 MB/s}}}}",
        more="starts_at: 13:00",
    )
    slow, quick = (one(plans[name]) for name in ("slow", "quick"))

    log_s = 12 * 3600 - slow["data_loss_s"]  # of 12 h since the dump began, less what the archive lacks
    assert slow["data_loss_s"] == quick["data_loss_s"]
    assert pytest.approx((2000 - 500) + (log_s / 20 - log_s / 50)) == slow["rto_s"] - quick["rto_s"]


@pytest.mark.parametrize(
    ("starts", "begins", "loss_s"), [("23:30", "17:20", 22_200), ("12:00", "11:45", 86_400 + 900), ("00:20", "23:40", 2400)]
)
def test_a_backup_that_says_when_it_begins_loses_what_the_clock_says(restores, starts, begins, loss_s):
    """It takes 30 min, so one that begins less than that before the loss is of no use yet."""
    dump = BACKUP.replace("}", f", begins_at: {begins}}}")

    losses_s = run(restores(f"{{it: {{copies: [{dump}]}}}}", more=f"starts_at: {starts}")["it"], 20)["data_loss_s"]

    assert pytest.approx(20 * [loss_s]) == losses_s.tolist()


@pytest.mark.parametrize(
    ("failover", "downtime_s", "rto_s"),
    [("automatic", 10 + 5, 120 + 180), ("manual", 120 + 300 + 30 + 60, 120 + 300 + 30 + 60 + 180)],
)
def test_a_standby_takes_over_by_itself_or_when_somebody_has_decided_and_promotes_it(restores, failover, downtime_s, rto_s):
    plans = restores(strategies(sync=[BACKUP, standby()], behind=[BACKUP, standby(lag="7 s")]), failover=failover)

    for name, loss_s in (("sync", 0), ("behind", 7)):
        found = one(plans[name])
        assert (downtime_s, rto_s, loss_s, 1) == tuple(found[m] for m in ("downtime_s", "rto_s", "data_loss_s", "failovers"))


def test_a_delayed_standby_replays_what_it_holds_back_before_it_is_promoted(restores):
    plan = restores(strategies(delayed=[BACKUP, standby(lag="7 s", delay="1 h")]))["delayed"]

    found = one(plan)

    # it does not take over by itself; an hour of log at twenty times its speed takes 180 s, less the 7 s that never came
    assert 120 + 300 + (3600 - 7) / 20 + 30 + 60 == pytest.approx(found["downtime_s"])
    assert 7 == found["data_loss_s"]


@pytest.mark.parametrize(("name", "low_s", "high_s"), [("nightly", 1800, 1800 + 86400), ("archive", 10, 10 + 300)])
def test_at_a_random_moment_the_loss_is_uniform_over_one_cycle_of_the_copies(name, low_s, high_s):
    """Of a dump U(d, d + T), of an archive U(s, s + a): Kolmogorov's band of 0.1 %, and four standard errors for the mean."""
    plan = build_plan(load_scenario("scenarios/canonical/data-restore.yaml"), name)
    losses_s = np.sort(run(plan, count := 1000)["data_loss_s"])

    share = (losses_s - low_s) / (high_s - low_s)
    assert np.abs(share - np.arange(1, count + 1) / count).max() < 1.95 / count**0.5
    assert abs(losses_s.mean() - (low_s + high_s) / 2) < 4 * (high_s - low_s) / 12**0.5 / count**0.5
    assert low_s <= losses_s[0] and losses_s[-1] <= high_s


LAGGING = standby(lag="1 h")
DAWN = BACKUP.replace("}", ", begins_at: 01:00}")


def test_a_live_standby_is_brought_what_an_archive_holds_of_its_lag_at_the_rate_of_a_replay(restores):
    plan = restores(strategies(lagging=[DAWN, ARCHIVE, LAGGING]), failover="manual", more="starts_at: 13:00")["lagging"]
    runs = run(plan, 50)

    assert (runs["data_loss_s"] >= 10).all() and (runs["data_loss_s"] <= 310).all()  # as of the archive alone
    assert np.allclose(120 + 300 + (3600 - runs["data_loss_s"]) / 20 + 30 + 60, runs["downtime_s"])  # and nothing is read back


def test_a_live_standby_has_a_newer_backup_read_back_to_it(restores):
    plan = restores(strategies(it=[DAWN, LAGGING]), failover="manual", more="starts_at: 01:40", log=False)["it"]  # 40 min old

    found = one(plan)

    assert (2400, 120 + 300 + 2000 + 30 + 60) == (found["data_loss_s"], pytest.approx(found["downtime_s"]))


@pytest.mark.parametrize(
    ("copies", "more"),
    [
        ([DAWN, ARCHIVE, LAGGING], {"log": False}),  # nothing says how fast a log is replayed
        ([DAWN, LAGGING], {"starts": "03:00"}),  # the backup is older
    ],
)
def test_a_promoted_standby_holds_its_own_moment_where_no_step_brings_it_more(restores, copies, more):
    log, starts = more.get("log", True), more.get("starts", "13:00")
    plan = restores(strategies(it=copies), failover="manual", more=f"starts_at: {starts}", log=log)["it"]

    found = one(plan)

    assert (3600, 120 + 300 + 30 + 60) == (found["data_loss_s"], pytest.approx(found["downtime_s"]))


def test_an_archive_that_is_never_newer_than_the_standby_needs_no_replay(restores):
    plans = restores(
        strategies(near=[BACKUP, ARCHIVE, standby(lag="10 s")], behind=[BACKUP, ARCHIVE, standby(lag="11 s")]), failover="manual"
    )

    assert {"near": 0, "behind": 1} == {name: sum(bool(s.replays) for s in plan.steps) for name, plan in plans.items()}


CORRUPTED = {"disruption": "{lose: application}", "more": "noticed: 30 min"}


def test_what_is_wrong_is_left_out_by_a_standby_that_is_behind_for_longer_than_it_takes_to_notice(restores):
    found = one(restores(strategies(delayed=[standby(delay="1 h")]), **CORRUPTED)["delayed"])

    # noticed after 1,800 s and stopped 300 s later; of the hour 2,100 s are not wanted and 1,500 s take 75 s to replay
    assert 1800 + 300 == pytest.approx(found["data_loss_s"])
    assert 75 + 30 + 60 == pytest.approx(found["downtime_s"])
    assert 2100 + 75 + 30 + 60 + 180 == pytest.approx(found["rto_s"])


def test_a_standby_that_had_what_is_wrong_already_has_a_backup_read_back_to_it_first(restores):
    late = {"disruption": "{lose: application}", "more": "noticed: {uniform: [0 s, 2 h]}"}
    runs = run(restores(strategies(delayed=[BACKUP, standby(delay="80 min")]), **late)["delayed"], 200)

    # promoted in any case, since it is stopped after 65 min in the mean; 100 GB at 50 MB/s where that was after 80 min
    helped = runs["data_loss_s"] < 4800
    assert 0.4 < helped.mean() < 0.9
    assert np.allclose((4800 - runs["data_loss_s"][helped]) / 20 + 30 + 60, runs["downtime_s"][helped])
    assert np.allclose(2000 + 30 + 60, runs["downtime_s"][~helped])


def test_a_backup_is_read_back_to_a_standby_that_was_too_late_where_nothing_is_said_of_a_log(restores):
    late = {"disruption": "{lose: application}", "more": "noticed: {uniform: [0 s, 2 h]}"}
    rate = {
        "change": {
            "      restore_rate: 50 MB/s\n": "",
            "promote: {duration: 30 s}": "promote: {duration: 30 s}\n      restore: {duration: 40 min}",
        }
    }
    for change, read_back_s in (({}, 2000), (rate, 2400)):
        runs = run(restores(strategies(delayed=[BACKUP, standby(delay="80 min")]), log=False, **late, **change)["delayed"], 100)

        helped = runs["data_loss_s"] < 4800
        assert 0 < helped.mean() < 1
        assert np.allclose(30 + 60, runs["downtime_s"][helped])
        assert np.allclose(read_back_s + 30 + 60, runs["downtime_s"][~helped])


def test_what_is_wrong_is_in_every_other_standby_so_that_a_backup_is_restored_beside_it(restores):
    plans = restores(strategies(nightly=[BACKUP], followed=[BACKUP, standby()], archived=[BACKUP, ARCHIVE]), **CORRUPTED)
    runs = {name: run(plan, 200) for name, plan in plans.items()}

    assert (runs["nightly"]["data_loss_s"] > 2100).all()
    assert (runs["followed"]["data_loss_s"] == runs["nightly"]["data_loss_s"]).all()
    assert np.allclose(2100, runs["archived"]["data_loss_s"])  # an archive is replayed up to what is wrong
    assert np.allclose(600 + 2000 + 60, runs["nightly"]["downtime_s"])  # it serves, wrongly, until it is stopped
    assert (1 == runs["nightly"]["out_at_end"]).all()  # the old primary is kept as it is


def test_callers_serve_nothing_until_each_of_them_is_pointed_to_the_new_place(restores):
    plan = restores(more="forks: 1", log=False)["as-it-is"]

    found = one(plan)

    # the two middle boxes are repointed one after the other: the first gives back 133.33 req/s of the 166.67
    assert 120 + 300 + 600 + 2000 + 60 == pytest.approx(found["downtime_s"])
    assert 500 / 3 * 3080 + (500 - 400) / 3 * 60 == pytest.approx(found["lost_capacity"])


def test_a_machine_that_the_store_shares_comes_back_with_all_that_was_on_it(restores):
    # mid1 and the store share a box; mid is installed there anew (20 s) and starts when the store serves
    plan = restores(
        change={
            "on: [sql1]": "on: [mid1]",
            "  - {name: sql1}\n": "",
            "repoint: {duration: 60 s}": "repoint: {duration: 60 s}, install: {duration: 20 s}, start: {duration: 5 s}",
        }
    )["as-it-is"]

    found = one(plan)

    assert 0 == found["out_at_end"]
    assert found["capacity_end"] == pytest.approx(500 / 3)
    assert ("restore/sql@mid1-new/start",) == next(s.after for s in plan.steps if s.id == "code/mid@mid1-new/start")
    assert ["mid@mid2"] == [s.target for s in plan.steps if s.action == "repoint"]


def test_the_lost_standby_is_made_anew_once_all_is_validated(restores):
    plans = restores(strategies(sync=[standby()]), change={"promote: {duration: 30 s}": "seed: {duration: 1000 s}"})

    found = one(plans["sync"])

    assert (300, 300 + 600 + 1000) == (found["rto_s"], found["makespan_s"])
    assert 0 == found["steps_failed"]
    assert 1900 - 15 == pytest.approx(found["added_exposure_s"])  # nobody follows from the failover to the end of the seed


def test_a_new_machine_waits_for_the_hands_that_allocate_and_a_spare_one_does_not(restores):
    text = "{as-it-is: {}, spare: {spares: 1}}"
    plans = restores(text, log=False)

    found = {name: one(plan) for name, plan in plans.items()}

    assert 600 == found["as-it-is"]["rto_s"] - found["spare"]["rto_s"]
    assert found["spare"]["machine_hours"] > found["as-it-is"]["machine_hours"]
    assert {"hosting": 1} == restores(text, more="hands: 1")["as-it-is"].pools


COPIES = (
    BACKUP,
    "{kind: backup, every: 6 h, takes: 1 h, consistent_at: end}",
    ARCHIVE,
    "{kind: log_archive, closes_every: 1 h, ships_in: 1 min}",
    standby(),
    standby(lag="5 s"),
    standby(lag="5 s", delay="2 h"),
)


FAILING = {
    "install: {duration: 0 s}": "install: {duration: 0 s, p_fail: 30 %}",
    "promote: {duration: 30 s}": "promote: {duration: 30 s, p_fail: 40 %}\n      restore: {duration: 1 s, p_fail: 30 %, retries: 1}",
    "allocate: {duration: 600 s}": "allocate: {duration: 600 s, p_fail: 20 %}",
}


@pytest.mark.parametrize("change", [{}, FAILING], ids=["nothing-fails", "much-fails"])
@pytest.mark.parametrize("disruption", ["machine", "application"])
def test_one_more_copy_loses_no_more_data_with_the_same_luck(restores, disruption, change):
    """Twelve random pairs of strategies, thirty replications each: the law holds in each of them, so there is no band."""
    luck = np.random.default_rng(7)
    failed = 0.0
    more = "noticed: {uniform: [10 min, 5 h]}" if disruption == "application" else ""
    for _ in range(12):
        few = [BACKUP, *(c for c in COPIES[1:] if luck.random() < 0.4)]
        failover = str(luck.choice(["automatic", "manual"]))
        further = [c for c in (*COPIES, *([LAGGING] if failover == "manual" else [])) if c not in few] or [BACKUP]
        plans = restores(
            strategies(few=few, many=[*few, str(luck.choice(further))]),
            f"{{lose: {disruption}}}",
            more,
            failover=failover,
            change=change,
        )
        few, many = (run(plans[name], 30) for name in ("few", "many"))

        assert (many["data_loss_s"] <= few["data_loss_s"] + 1e-6).all(), plans["many"].environment.services["sql"].store
        failed += few["steps_failed"].sum() + many["steps_failed"].sum()
    assert (failed > 0) == bool(change)


@pytest.mark.parametrize("what", ["allocate", "install", "restore", "promote"])
def test_a_store_that_does_not_come_back_has_lost_what_its_best_copy_lacks(restores, what):
    """The same as where it does come back: what no copy holds is gone whatever is done later."""
    recipes = {"install": "0 s", "promote": "30 s", "restore": "1 s"}
    change = {f"{what}: {{duration: 600 s}}": f"{what}: {{duration: 600 s, p_fail: 100 %}}"} if what == "allocate" else {}
    listed = "\n      ".join(f"{a}: {{duration: {d}{', p_fail: 100 %' if a == what else ''}}}" for a, d in recipes.items())
    change |= {"install: {duration: 0 s}\n      promote: {duration: 30 s}": listed}
    text, more = strategies(it=[DAWN, *([standby(lag="7 s")] if what == "promote" else [])]), "starts_at: 13:00"

    back, away = (one(restores(text, failover="manual", more=more, change=c)["it"]) for c in ({}, change))

    assert 7 if what == "promote" else 12 * 3600 == back["data_loss_s"]
    assert (back["data_loss_s"], 10 * back["data_loss_s"]) == (away["data_loss_s"], away["lost_writes"])
    assert (1, 0, 1) == (back["success"], away["success"], away["steps_failed"])


@pytest.mark.parametrize(
    ("noticed", "delay", "share", "p95"),
    [
        ("{uniform: [0 s, 100 min]}", "86 min", 19, "100 min"),
        ("{uniform: [0 s, 100 min]}", "101 min", None, ""),
        ("1 h", "66 min", None, ""),
    ],
)
def test_a_standby_that_is_too_late_in_more_than_one_case_of_twenty_draws_a_warning(restores, tmp_path, noticed, delay, share, p95):
    restores(strategies(it=[BACKUP, standby(delay=delay)]), "{lose: application}", more=f"noticed: {noticed}")  # 5 min more to decide

    told = load_scenario(tmp_path / "it.yaml").warnings()

    assert (share is not None) == bool(told)
    for warning in told:
        assert f"it: in about {share} % of the cases the standby of 'sql' has applied what is wrong" in warning
        assert f"and {p95} at p95 to notice and decide; another copy is taken then" in warning


ZONED = {
    "  - {name: sql1}\n  - {name: mon1}": "  - {name: sql1, zone: a}\n  - {name: mon1, zone: b}",
    "entry: lb": "entry: lb\npolicy: {zone: {rpo: 1 min}}",
}


def test_a_strategy_s_standby_must_not_share_the_zone_of_its_primary_where_the_policy_needs_it_elsewhere(restores, tmp_path):
    with pytest.raises(FileError) as error:
        restores(strategies(it=[BACKUP, standby(lag="5 s")]), change=ZONED)

    [fault] = error.value.faults
    assert (tmp_path / "it.yaml").read_text().splitlines()[fault.line - 1][fault.column - 1 :].startswith(standby(lag="5 s"))
    assert "sql1-standby stands in zone a as its primary on sql1 does" in fault.message
    assert "let standby_zone put it in another zone (b)" in fault.message


@pytest.mark.parametrize(
    "text",
    [
        "{it: {copies: [" + standby(lag="5 s") + "], standby_zone: other}}",
        "{it: {copies: [" + standby(lag="2 min") + "]}}",  # it is behind by more than was promised, and keeps no promise anywhere
        "{it: {copies: [" + BACKUP + ", {kind: log_archive, closes_every: 40 s, ships_in: 10 s}, " + standby() + "]}}",
        "{it: {copies: [" + BACKUP + "]}}",
    ],
)
def test_a_strategy_s_standby_may_stand_where_the_policy_is_kept_or_is_not_its_to_keep(restores, text):
    assert restores(text, change=ZONED)


WRONG = [
    ("nothing-left", "{a: {copies: []}}", {}, "it has no copies; keep a backup where the loss of sql1 does not reach it"),
    ("same-fate", "{a: {copies: [{kind: backup, every: 1 h, takes: 1 min, on: sql1}]}}", {}, r"of no use: backup \(lost with sql1\)"),
    ("archive-alone", "{a: {copies: [" + ARCHIVE + "]}}", {}, "goes on from a backup, and none is left"),
    ("no-standby", "{a: {by: promote}}", {}, "no standby of 'sql' is left to be promoted: it has none"),
    ("undelayed", "{a: {copies: [" + standby() + "], by: promote}}", CORRUPTED, "its delay is 0 s, and it takes 35 min"),
    ("takes-over", "{a: {copies: [" + BACKUP + ", " + standby() + "], by: restore}}", {}, "takes over by itself"),
    ("unnoticed", "{a: {}}", {"disruption": "{lose: application}"}, "nothing says how late"),
    ("noticed", "{a: {}}", {"more": "noticed: 5 min"}, "lost is the machine, which is detected"),
    ("zone", "{a: {}}", {"disruption": "{lose: zone}"}, "write machine or application, or scenario: disaster_recovery"),
    ("other-machine", "{a: {}}", {"disruption": "{lose: machine, which: web1}"}, "so that the loss of 'web1' takes no data"),
    ("no-machine", "{a: {}}", {"disruption": "{lose: machine, which: sql9}"}, "'sql9' is no machine; did you mean 'sql1'?"),
    ("no-store", "{a: {}}", {"more": "store: sqll"}, "'sqll' is no datastore; there are sql|did you mean 'sql'"),
    ("kept-nowhere", "{a: {copies: [{kind: backup, every: 1 h, takes: 1 min, zone: q}]}}", {}, "kept in 'q', which is no zone"),
    ("standby-zone", "{a: {copies: [" + standby() + "], standby_zone: q}}", {}, "'q' is no zone of a machine"),
    ("zone-for-nothing", "{a: {standby_zone: other}}", {}, "this strategy makes no standby"),
    ("no-install", "{a: {}}", {"change": {"install: {duration: 0 s}": "start: {duration: 0 s}"}}, "no recipe for 'install'"),
    ("no-allocate", "{a: {}}", {"change": {"actions: {allocate: {duration: 600 s}}": "actions: {}"}}, "sql1-new must be new, and spares are 0"),
    ("no-rate", "{a: {}}", {"change": {"restore_rate: 50 MB/s": "restore_rate: null"}}, "nothing says how long it takes to restore"),
    ("no-size", "{a: {}}", {"change": {"      size: 100 GB\n": ""}}, "not how much it holds"),
    ("nobody", "{a: {}}", {"change": {"decide: 300 s, ": ""}}, "how long it takes to decide; write 'decide' here, or under 'recovery'"),
    ("no-promote", "{a: {copies: [" + standby() + "]}}", {"failover": "manual", "change": {"promote: {duration: 30 s}": "stop: {duration: 1 s}"}}, "no recipe for 'promote'"),
    ("never-o'clock", "{a: {copies: [{kind: backup, every: 1 d, takes: 1 h, begins_at: 25:00}]}}", {}, "'25:00' is no time of day"),
    ("a-while", "{a: {copies: [{kind: backup, every: 1 d, takes: 1 h, begins_at: 2 h}]}}", {}, "'2 h' is no time of day"),
    ("never-read", "{a: {restore_rate: 0 MB/s}}", {}, "must be above 0"),
    ("no-log", "{a: {replay_rate: 1 MB/s}}", {"log": False}, "no store says how much it writes; state the store's log_rate"),
    ("nothing-to-read", "{a: {restore_rate: 9 MB/s}}", {"change": {"      size: 100 GB\n": "", "      restore_rate: 50 MB/s\n": ""}}, "state its size"),
]  # fmt: skip


@pytest.mark.parametrize(("strategies", "more", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_cannot_be_meant_is_refused_with_its_place(restores, strategies, more, says):
    with pytest.raises(FileError, match=says) as error:
        restores(strategies, **more)

    assert all(fault.line > 0 for fault in error.value.faults)
    assert 1 == len(error.value.faults), str(error.value)
