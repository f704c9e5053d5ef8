"""Whole plans in which a store is lost or corrupted and restored: the figures by hand."""

from __future__ import annotations

import json
import math

import pytest

from simdeploy.environment.durations import fixed
from simdeploy.environment.models import Environment
from simdeploy.errors import InvalidDocument, PlanError
from simdeploy.plan.following import measure
from simdeploy.plan.overview import steps as table_of
from simdeploy.plan.plan import Corruption, Crash, Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import simulate, trace
from simdeploy.simulation.sampler import Draws
from simdeploy.study.causes import cause_of
from tests.builders import run

DUMP = {"kind": "backup", "every": 86_400.0, "takes": 1800.0}
SEGMENTS = {"kind": "log_archive", "closes_every": 300.0, "ships_in": 10.0}
STANDBY = {"kind": "standby", "lag": 5.0}


def shop(*copies, **store):
    """A store on a (zone east), b and c (zone west); web needs it."""
    fields = {"writes_per_s": 10.0, "log_bytes_per_s": 1e6, "replay_bytes_per_s": 20e6, "copies": copies} | store
    return Environment.model_validate(
        {
            "name": "shop",
            "machines": [{"name": "a", "zone": "east"}, {"name": "b", "zone": "east"}, {"name": "c", "zone": "west"}],
            "entry": "sql",
            "services": {"sql": {"role": "datastore", "on": ["a", "b"], "capacity_per_s": 100.0, "store": fields}},
            "demand": {"rate_per_s": 50.0},
        }
    )


def recovery(*more, copy=None, takes_s=2000.0, replay=None):
    """Restore the store in *takes_s*, replay its log, let a serve again."""
    last = Step(id="restore/sql/replay", replays="sql", needs=("restore/sql/restore",), **(replay or {}))
    return (
        *more,
        Step(id="restore/sql/restore", duration=fixed(takes_s), needs=tuple(s.id for s in more), end=(("restore", "sql", copy),)),
        last,
        Step(id="restore/sql/serve", duration=fixed(60.0), needs=(last.id,), end=(("serve", "sql@a"), ("validated",))),
    )


def lost(at_s, *machines):
    return tuple(Crash(machine=m, at_s=at_s) for m in machines)


def outcome(plan):
    """(metrics without luck of any kind but phases of one half, the length of the replay)."""
    engine = Engine(plan)
    draws = Draws(plan, 0, 0, 1, engine.names)
    values = {name: v[0] for name, v in run(plan).items()}
    told = engine.trace(draws)
    began, ended = (next(r.at_s for r in told if r.kind == k and r.subject == "restore/sql/replay") for k in ("began", "ended"))
    return values, ended - began, draws.phases(0)["sql"], told


def newest(period_s, phase, at_s):
    return phase * period_s + math.floor((at_s - phase * period_s) / period_s) * period_s


@pytest.mark.parametrize(("machines", "copy"), [(("a",), None), (("a", "b"), None), (("a",), "backup"), (("a", "b"), "standby")])
def test_what_a_disaster_leaves_decides_what_is_lost_and_how_long_the_log_is_replayed(machines, copy):
    plan = Plan(environment=shop(DUMP, SEGMENTS, STANDBY), crashes=lost(1000, *machines), steps=recovery(copy=copy), disaster_at_s=1000)

    values, replay_s, phases, _ = outcome(plan)

    closed = newest(300.0, phases.archive, 1000 - 10)
    dumped = newest(86_400.0, phases.backup, 1000 - 1800)
    followed = machines == ("a",) and copy is None
    until_s = 995 if followed else -math.inf if copy == "standby" else closed
    assert 1000 - until_s == pytest.approx(values["data_loss_s"])
    assert 10 * (1000 - until_s) == pytest.approx(values["lost_writes"])
    assert (0 if until_s != closed else (closed - dumped) / 20) == pytest.approx(replay_s)
    assert values["makespan_s"] == pytest.approx(2000 + replay_s + 60)


def test_an_infinite_loss_is_told_as_such():
    plan = Plan(environment=shop(STANDBY), crashes=lost(1000, "a", "b"), steps=recovery())

    found = simulate(plan, 80)

    assert math.inf == found.values["data_loss_s"][0] == found.values["lost_writes"][0] == found.values["exposure_max_s"][0]
    assert json.loads(found.to_json())["metrics"]["data_loss_s"]["mean"] is None
    assert math.inf == found.summary().loc["data_loss_s", "p95"]
    shown = found._repr_mimebundle_()["text/html"]
    assert "<td style='text-align:left'>data_loss_s</td><td style='text-align:right'>no bound</td>" in shown


def test_a_store_that_nobody_writes_loses_no_write_even_if_all_is_lost():
    assert 0 == run(Plan(environment=shop(writes_per_s=0.0), steps=recovery()))["lost_writes"][0]


@pytest.mark.parametrize(("kept", "loss"), [({}, 1000), ({"on": "b"}, math.inf), ({"zone": "east"}, math.inf), ({"zone": "west"}, 1000)])
def test_a_backup_that_is_kept_where_the_disaster_is_does_not_help(kept, loss):
    daily = DUMP | {"every": 4000.0, "takes": 0.0, "consistent_at": "end"} | kept
    plan = Plan(environment=shop(daily), crashes=lost(1000, "a", "b"), steps=recovery())

    values, _, phases, _ = outcome(plan)

    assert pytest.approx(loss if loss == math.inf else 1000 - newest(4000.0, phases.backup, 1000)) == values["data_loss_s"]


def corrupted(delay_s, at_s=400.0):
    """Corrupted at 400 s, noticed and stopped at 1000 s, restored."""
    stop = Step(id="restore/sql/stop", begin=(("kill", "sql@a"),), after=("restore/sql/notice",))
    notice = Step(id="restore/sql/notice", duration=fixed(1000.0))
    env = shop(DUMP, STANDBY | {"lag": 0.0, "delay": delay_s})
    steps = recovery(notice, stop)
    return Plan(environment=env, corruptions=(Corruption(store="sql", at_s=at_s),), steps=steps)


@pytest.mark.parametrize(("delay_s", "saved"), [(599.0, False), (600.0, False), (601.0, True), (3600.0, True)])
def test_a_delayed_standby_saves_from_a_corruption_that_is_noticed_before_its_delay_is_over(delay_s, saved):
    values, replay_s, phases, told = outcome(corrupted(delay_s))

    dumped = newest(86_400.0, phases.backup, 400 - 1800)  # one that started before 400; none that ended later is away by 1000
    assert (600 if saved else 1000 - dumped) == pytest.approx(values["data_loss_s"])
    assert ((400 - (1000 - delay_s)) / 20 if saved else 0) == pytest.approx(replay_s)
    assert [(400.0, "corrupted", "sql")] == [r[:3] for r in told if r.kind == "corrupted"]


def test_a_corruption_ends_with_the_restore():
    """A second restore wants everything that was written since the first."""
    again = Step(id="restore/sql/again", needs=("restore/sql/serve",), duration=fixed(50.0), end=(("restore", "sql"),))
    plan = corrupted(3600.0)

    values = run(plan.model_copy(update={"steps": (*plan.steps, again)}))

    assert 600 == values["data_loss_s"][0]  # the second loses what came after the first: 130 s and 110 s


def test_without_a_restore_nothing_is_replayed():
    plan = Plan(environment=shop(DUMP, SEGMENTS), steps=(Step(id="replay", replays="sql"),))

    assert 0 == run(plan)["makespan_s"][0]


def test_a_replay_that_its_time_out_ends_fails_every_time():
    env = shop(DUMP, SEGMENTS, log_bytes_per_s=20e6)
    plan = Plan(environment=env, crashes=lost(0, "a", "b"), steps=recovery(replay={"timeout_s": 7.0, "retries": 2}))

    values = run(plan)

    assert 2000 + 3 * 7 == values["makespan_s"][0]
    assert (1, 1) == (values["steps_failed"][0], values["partial"][0])


def test_a_replay_is_attempted_as_long_again_when_its_machine_died():
    env = shop(DUMP, SEGMENTS, log_bytes_per_s=20e6)  # a second of log takes a second
    steps = recovery(replay={"on": "c"})
    whole = Plan(environment=env, crashes=lost(0, "a", "b"), steps=steps)
    broken = whole.model_copy(update={"crashes": (*whole.crashes, Crash(machine="c", at_s=2100, for_s=100))})

    assert 200 == pytest.approx(run(broken)["makespan_s"][0] - run(whole)["makespan_s"][0])


@pytest.mark.parametrize(
    "plan",
    [corrupted(3600.0), corrupted(10.0), Plan(environment=shop(DUMP, SEGMENTS, STANDBY), crashes=lost(1000, "a", "b"), steps=recovery())],
)
def test_a_trace_folds_to_the_numbers_of_its_run(plan):
    engine = Engine(plan)
    phases = Draws(plan, 0, 0, 1, engine.names).phases(0)
    again = Plan.from_json(plan.to_json())

    measured = measure(again, trace(plan), phases).values

    for name, values in run(plan).items():
        assert measured[name] is None if math.isnan(values[0]) else measured[name] == pytest.approx(values[0]), name


@pytest.mark.parametrize(
    ("copies", "log_s"),
    [
        ((DUMP,), 0),
        ((DUMP, SEGMENTS), 43_200 + 1800 - 160),  # T/2 + d from the backup to now, less s + a/2
        ((DUMP | {"consistent_at": "end"}, SEGMENTS), 43_200 - 160),
        ((STANDBY | {"delay": 7200.0},), 7200),
        ((STANDBY,), 0),
    ],
)
def test_the_critical_path_takes_a_replay_at_its_mean(copies, log_s):
    plan = Plan(environment=shop(*copies), steps=recovery())

    assert 2060 + log_s / 20 == pytest.approx(plan.critical_path_s())
    assert "until the log of sql is replayed" in [row[2] for row in table_of(plan).rows]


def test_over_all_phases_the_mean_replay_is_that_of_the_critical_path():
    plan = Plan(environment=shop(DUMP, SEGMENTS), crashes=lost(1000, "a", "b"), steps=recovery())

    found = run(plan, 2000)["makespan_s"]

    assert abs(found.mean() - plan.critical_path_s()) < 4 * 86_400 / 20 / 12**0.5 / 2000**0.5  # four standard errors


def test_a_quicker_replay_is_named_as_what_would_save_downtime():
    plan = Plan(environment=shop(DUMP, SEGMENTS), crashes=lost(0, "a", "b"), steps=recovery(takes_s=10.0))

    named = cause_of(plan).culprits[0]

    assert ("replay", "sql") == (named.action, named.service)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"replays": "sqll"}, "replays the log of 'sqll', that is no service; did you mean 'sql'?"),
        ({"replays": "sql", "duration": 5}, "also has a duration"),
        ({"replays": "sql", "kind": "gate", "gate": {}}, "is a gate; only a step replays"),
        ({"end": [["restore", "sql", "tape"]]}, "'tape', which is no kind of copy; it takes 'backup' or 'standby'"),
    ],
)
def test_a_restore_that_makes_no_sense_is_refused(step, says):
    document = {"environment": shop(DUMP, SEGMENTS).model_dump(mode="json"), "steps": [{"id": "x", **step}]}

    with pytest.raises(PlanError) as error:
        Plan.from_json(json.dumps(document))

    assert says in str(error.value)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (shop(DUMP, log_bytes_per_s=None), "does not state `log_rate`"),
        (shop(DUMP, log_bytes_per_s=None, replay_bytes_per_s=None), "does not state `log_rate` and `replay_rate`"),
        (shop(SEGMENTS), "has a log archive and no backup"),
    ],
)
def test_a_replay_needs_the_rates_and_something_to_start_from(env, says):
    with pytest.raises(PlanError, match="replays the log of 'sql', .*" + says):
        Plan(environment=env, steps=recovery())


@pytest.mark.parametrize(("store", "says"), [("sqll", "is no service; did you mean 'sql'"), ("web", "has no `store`")])
def test_only_a_store_is_corrupted(store, says):
    env = shop().model_dump(mode="json", exclude_defaults=True)
    env["services"]["web"] = {"on": ["c"]}

    with pytest.raises(PlanError, match=f"'{store}' is to be corrupted and {says}"):
        Plan.model_validate({"environment": env, "steps": [], "corruptions": [{"store": store, "at_s": 5}]})


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"on": "bb"}, "a backup of 'sql' is kept on 'bb', which is no machine; did you mean 'b'?"),
        ({"zone": "wst"}, "a backup of 'sql' is kept in 'wst', which is no zone of a machine; did you mean 'west'?"),
    ],
)
def test_a_copy_is_kept_somewhere_that_exists(kept, says):
    with pytest.raises(InvalidDocument) as error:
        shop(DUMP | kept)

    [problem] = error.value.problems
    assert (("services", "sql", "store", "copies", 0, *kept), says) == (problem.path, problem.message)


def failing(crashes=(), at="restore", env=None, **fields):
    """The recovery above, whose step *at* fails for certain."""
    steps = [s.model_copy(update={"p_fail": 1.0}) if s.id == f"restore/sql/{at}" else s for s in fields.pop("steps", recovery())]
    return Plan(environment=env or shop(DUMP, SEGMENTS), crashes=crashes, steps=tuple(steps), **fields)


def lost_by(plan):
    values = run(plan)
    return values["data_loss_s"][0], values["lost_writes"][0]


@pytest.mark.parametrize("machines", [("a",), ("a", "b")])
@pytest.mark.parametrize("at", ["restore", "replay", "serve"])
def test_a_restore_that_fails_leaves_the_loss_that_it_would_have_come_to(machines, at):
    """With a standby on b: 5 s where b lives; else as of the archive. What comes after a restore adds nothing to it."""
    plan = Plan(environment=shop(DUMP, SEGMENTS, STANDBY), crashes=lost(1000, *machines), steps=recovery())

    whole, broken = lost_by(plan), lost_by(failing(plan.crashes, at, plan.environment))

    assert whole == broken
    assert 0 < whole[0] == pytest.approx(whole[1] / 10)
    assert machines == ("a", "b") or whole[0] == 5


@pytest.mark.parametrize("for_s", [500.0, 100_000.0])
def test_a_machine_that_comes_back_with_its_disk_has_lost_nothing_however_late(for_s):
    crash = Crash(machine="a", at_s=1000, for_s=for_s)

    assert (0, 0) == lost_by(failing((crash,), horizon_s=4000.0))


def test_a_store_without_any_copy_that_never_comes_back_has_no_bound_on_its_loss():
    assert (math.inf, math.inf) == lost_by(failing(lost(1000, "a"), env=shop(DUMP | {"on": "a"})))
    assert (math.inf, math.inf) == lost_by(Plan(environment=shop(), crashes=lost(1000, "a"), steps=(Step(id="x"),), horizon_s=2000.0))


def test_a_copy_on_a_machine_that_comes_back_counts_for_a_store_that_does_not():
    env = shop(DUMP | {"every": 100_000.0, "takes": 0.0, "begins_at": 0.0, "on": "b"})
    gone, back = (lost_by(failing((*lost(1000, "a"), Crash(machine="b", at_s=1000, for_s=x)), env=env)) for x in (None, 9000.0))

    assert ((math.inf, math.inf), (1000, 10_000)) == (gone, back)


def test_what_is_wrong_and_never_left_out_is_lost_with_all_since_then():
    """Corrupted at 400 s and stopped at 1,000 s; the standby with an hour's delay still had what was before."""
    whole, broken = (
        corrupted(3600.0),
        failing(steps=corrupted(3600.0).steps, env=corrupted(3600.0).environment, corruptions=corrupted(1.0).corruptions),
    )

    assert (600, 6000) == lost_by(whole) == lost_by(broken)


def test_what_is_wrong_in_a_store_that_serves_on_is_lost_up_to_the_end():
    plan = Plan(
        environment=corrupted(3600.0).environment,
        corruptions=(Corruption(store="sql", at_s=400.0),),
        steps=(Step(id="x"),),
        horizon_s=2000.0,
    )

    assert (1600, 16_000) == lost_by(plan)


def test_a_primary_that_was_taken_out_before_its_machine_died_stopped_then():
    out = Step(id="out", begin=(("out", "sql@a"),), duration=fixed(500.0))
    env = shop(DUMP | {"every": 100_000.0, "takes": 0.0, "begins_at": 0.0})
    for at in ("restore", ""):  # whether it comes back or not
        assert (0, 0) == lost_by(failing(lost(300, "a"), at, env, steps=recovery(out)))


def test_a_primary_whose_machine_is_given_back_is_gone():
    """It is removed at 700 s, and the dump of midnight is what is left; the restore comes later or fails."""
    away = (Step(id="wait", duration=fixed(700.0)), Step(id="away", needs=("wait",), begin=(("remove", "sql@a"),)))
    env = shop(DUMP | {"every": 100_000.0, "takes": 0.0, "begins_at": 0.0})

    assert [(700, 7000)] * 2 == [lost_by(failing(at=at, env=env, steps=recovery(*away))) for at in ("restore", "")]


def test_a_split_store_is_gone_when_everybody_is():
    env = shop(DUMP | {"every": 100_000.0, "takes": 0.0, "begins_at": 0.0})
    split = (Step(id="split", begin=(("split", "sql"),), duration=fixed(10.0)),)
    one, both = (
        lost_by(Plan(environment=env, crashes=crashes, steps=split, horizon_s=2000.0))
        for crashes in (lost(600, "a"), (*lost(600, "a"), *lost(900, "b")))
    )

    assert ((0, 0), (900, 9000)) == (one, both)


@pytest.mark.parametrize("plan", [failing(lost(1000, "a", "b")), failing((Crash(machine="a", at_s=1000, for_s=9000.0),))])
def test_the_trace_tells_who_never_returns(plan):
    engine = Engine(plan)

    measured = measure(plan, trace(plan), Draws(plan, 0, 0, 1, engine.names).phases(0)).values

    assert lost_by(plan) == pytest.approx((measured["data_loss_s"], measured["lost_writes"]))
