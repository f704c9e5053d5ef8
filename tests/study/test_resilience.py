"""Resilience: the figures of the worked example by pencil, each cure, the verdicts, and what cannot be asked."""

# ruff: noqa: E501 (a list of mistakes reads better in wide rows)
from __future__ import annotations

import json
import math
import pathlib
import re

import pytest
from click.testing import CliRunner

import simdeploy
from simdeploy.cli import main
from simdeploy.environment.files import load_environment
from simdeploy.environment.policy import Policy
from simdeploy.errors import FileError, StudyError
from simdeploy.simulation.outcome import simulate
from simdeploy.study.cures import CURES
from simdeploy.study.disruptions import losses, plan_after
from simdeploy.study.resilience import resilience

PAGE = pathlib.Path("docs/resilience.md").read_text(encoding="utf-8")
SHOP = re.search(r"<!-- runnable: shop.yaml -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
COPIES = "copies: [{kind: backup, every: 24 h, takes: 30 min}]"
STANDBY = {"on: [sql1]": "on: [sql1, sql2]", "  - {name: sql1, zone: a}": "  - {name: sql1, zone: a}\n  - {name: sql2, zone: %s}"}
FOLLOWED = f"{COPIES[:-1]}, {{kind: standby}}]"
POLICY = re.search(r"policy:\n(?:  .*\n)+", SHOP)[0]


@pytest.fixture
def shop(tmp_path):
    """The environment of the page, with some texts replaced."""

    def build(changes=None, file="shop.yaml"):
        text = SHOP
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / file).write_text(text)
        return load_environment(tmp_path / file)

    return build


def promised(text):
    return {POLICY: f"policy: {text}\n"}


def figures(found):
    return {str(row.loss): row for row in found.rows}


def tried(breach):
    return {trial.cure.name: trial.tail for trial in breach.trials}


def invoke(*arguments):
    return CliRunner().invoke(main, ["resilience", *map(str, arguments)])


def test_the_page_shows_what_the_command_prints(shop, tmp_path, monkeypatch):
    shop()
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"<!-- output: (.+?) -->\n```text\n(.*?)```", PAGE, re.DOTALL)

    assert shown
    for command, text in shown:
        printed = CliRunner().invoke(main, command.split())
        assert text.strip() == printed.stdout.strip()
        assert 4 == printed.exit_code
        assert max(map(len, printed.stdout.splitlines())) <= 80


def test_every_cure_stands_on_the_page_and_no_other():
    assert {cure.name for cure in CURES} == set(re.findall(r"^\| `([a-z-]+)` \| R", PAGE, re.MULTILINE))


def test_each_disruption_takes_what_a_pencil_says(shop):
    found = figures(resilience(shop({POLICY: ""}), replications=400))

    restored_s = 60 + 1200 + 30
    assert {
        "application sql": 1800 + 600 + 600 + restored_s + 180,
        "machine web1": 120 + 600 + 600 + 140 + 180,
        "machine sql1": 120 + 600 + 600 + restored_s + 180,
        "zone a": 120 + 600 + 600 + restored_s + 20 + 180,
        "zone b": 120 + 600 + 600 + 140 + 180,
        "everything": 120 + 600 + 3 * 600 + 140 + 180,
    } == {name: pytest.approx(row.rto.tail) for name, row in found.items()}
    assert all(row.rto.p50 == row.rto.tail for row in found.values())
    downs = {"application sql": 600 + restored_s, "machine web1": 0, "machine sql1": 1320 + restored_s, "zone a": 1320 + restored_s}
    assert {**downs, "zone b": 0, "everything": 1320 + restored_s + 20} == {n: pytest.approx(r.downtime.tail) for n, r in found.items()}
    assert ("web1", "web2") == found["machine web1"].loss.alike
    assert (0, 0) == (found["machine web1"].rpo.tail, found["zone b"].rpo.tail)
    # the age of a nightly dump; four standard errors of a quantile of 400 uniforms: sqrt(p (1 - p) / 400) of the period
    for name, least_s in (("machine sql1", 1800), ("zone a", 1800), ("everything", 1800), ("application sql", 2400)):
        assert abs(found[name].rpo.p50 - (least_s + 0.5 * 86400)) < 4 * 0.025 * 86400
        assert abs(found[name].rpo.tail - (least_s + 0.95 * 86400)) < 4 * 0.0109 * 86400


def test_a_row_is_the_forecast_of_its_plan(shop):
    env = shop()
    found = resilience(env, replications=80, seed=5)

    for row in found.rows:
        alone = simulate(plan_after(env, row.loss), 80, seed=5)
        assert sorted(alone.values["data_loss_s"])[75] == row.rpo.tail  # the 76th of 80 is the p95


CASES = [
    ("machine-rto", "{machine: {rto: 30 min}}", {"detected-sooner": 2730, "decided-sooner": 2490, "hourly-dumps": 2790, "standby": 300}, True),
    ("zone-rto", "{zone: {rto: 46 min}}", {"detected-sooner": 2750}, True),
    ("everything-rto", "{everything: {rto: 2500 s}}", {"detected-sooner": 2780, "decided-sooner": 2540, "hourly-dumps": 2840, "more-hands": 2810, "spare-machines": 2210}, True),
    ("application-rto", "{application: {rto: 1 h}}", {"noticed-sooner": 3570}, True),
    ("application-rpo", "{application: {rpo: 1 h}}", {"log-archive": 2400}, True),
    ("none-suffices", "{application: {rto: 10 min}}", {"noticed-sooner": 3570, "decided-sooner": 4170, "hourly-dumps": 4470, "spare-machines": 3870}, False),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "wanted", "suffices"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_first_cure_that_keeps_the_objective_is_named(shop, policy, wanted, suffices):
    [breach] = resilience(shop(promised(policy)), replications=80).breaches

    assert wanted == {name: pytest.approx(tail) for name, tail in tried(breach).items()}
    assert suffices == breach.best.met
    assert breach.best.cure.name == (list(wanted)[-1] if suffices else min(wanted, key=wanted.get))


def test_what_is_lost_is_cured_by_the_cheapest_copy_that_keeps_the_promise(shop):
    # an archive: 30 to 330 s; a dump every hour: 1800 to 5400 s; a standby 5 s
    by_archive, by_standby = (
        resilience(shop(promised(f"{{zone: {{rpo: {rpo}}}}}")), replications=400).breaches[0] for rpo in ("10 min", "1 min")
    )

    assert ["log-archive"] == list(tried(by_archive))
    assert abs(by_archive.best.tail - 315) < 4 * 0.0109 * 300
    assert ["log-archive", "hourly-dumps", "standby-elsewhere"] == list(tried(by_standby))
    assert abs(tried(by_standby)["hourly-dumps"] - (1800 + 0.95 * 3600)) < 4 * 0.0109 * 3600
    assert 5 == by_standby.best.tail


def test_a_standby_beside_the_primary_is_no_cure_where_the_policy_needs_it_elsewhere(shop):
    found = resilience(shop(promised("{machine: {rto: 30 min}, zone: {rpo: 1 min}}")), replications=80)

    assert "standby" not in tried(found.breaches[0])
    assert ("standby-elsewhere", 300) == (found.breaches[0].best.cure.name, found.breaches[0].best.tail)


def test_a_failover_that_needs_nobody_a_copy_kept_elsewhere_and_a_late_standby_are_tried(shop):
    promote = {"start: {duration: 30 s}}": "start: {duration: 30 s}, promote: {duration: 60 s}}"}
    beside = {k: v.replace("%s", "b") for k, v in STANDBY.items()}
    followed = shop({**beside, **promote, COPIES: FOLLOWED})
    kept = shop({COPIES: COPIES.replace("30 min", "30 min, zone: a"), **promised("{zone: {rpo: 25 h}}")})
    late = shop({**promote, **promised("{application: {rto: 46 min}}")})
    [sql1] = [loss for loss in losses(followed) if str(loss) == "machine sql1"]
    [automatic] = [cure for cure in CURES if cure.name == "automatic-failover"]

    by_hand, by_itself = (simulate(plan_after(env, sql1), 1) for env in (followed, automatic.change(followed, sql1)[0]))
    elsewhere, delayed = (resilience(env, replications=80).breaches[0] for env in (kept, late))

    assert (120 + 600 + 60 + 180, 120 + 180) == (by_hand.values["rto_s"][0], by_itself.values["rto_s"][0])
    assert (120 + 600 + 60, 10 + 20) == (by_hand.values["downtime_s"][0], by_itself.values["downtime_s"][0])
    assert "nothing is left from which 'sql' could be restored" in elsewhere.cause
    assert "kept-elsewhere" == elsewhere.best.cure.name
    assert 1800 < elsewhere.best.tail < 25 * 3600
    # replay is not known to take anything: noticed, decided, promoted, validated
    assert 1800 + 600 + 60 + 180 == pytest.approx(tried(delayed)["delayed-standby"])


def test_the_cause_names_what_takes_longest_and_what_the_data_comes_from(shop):
    rto, rpo = resilience(shop(promised("{machine: {rto: 30 min, rpo: 10 min}}")), replications=80).breaches

    assert rto.cause.startswith("what takes longest is restore of sql (half of it saves 10 min), then ")
    assert "sql comes back from a backup every 24 h" == rpo.cause


@pytest.mark.parametrize(("held_at", "met"), [("p50", True), ("p95", False)])
def test_an_objective_is_held_at_the_quantile_of_the_policy(shop, held_at, met):
    found = resilience(shop(promised(f"{{machine: {{rpo: 18 h}}, held_at: {held_at}}}")), replications=100)

    assert (met, met) == (figures(found)["machine sql1"].rpo.met, found.all_met)


def test_an_objective_that_is_just_reached_is_met(shop):
    found = resilience(shop(promised("{machine: {rto: 2790 s}}")), replications=80)

    assert found.all_met and not found.breaches


def test_too_few_replications_and_a_zone_that_is_not_stated_are_not_kept(shop):
    few = resilience(shop(promised("{machine: {rto: 30 h}}")), replications=20)
    nowhere = resilience(shop({", zone: a": "", ", zone: b": "", **promised("{zone: {rto: 30 h}}")}), replications=80)

    assert (None, False) == (figures(few)["machine sql1"].rto.met, few.all_met)
    assert (("zone",), False) == (nowhere.untold, nowhere.all_met)
    assert "no machine has a zone" in nowhere.nothing["zone"]


def test_without_a_datastore_an_application_can_corrupt_nothing(shop):
    store = SHOP[SHOP.index("    role: datastore\n") : SHOP.index("    on: [sql1]")]
    spec = SHOP[SHOP.index("    store:\n") :]

    found = resilience(shop({store: "", spec: "", **promised("{application: {rpo: 1 h}}")}), replications=80)

    assert "no service is a datastore" in found.nothing["application"]
    assert found.all_met


def test_of_two_stores_each_is_corrupted_and_the_one_that_is_hit_is_mended(shop):
    second = SHOP[SHOP.index("  sql:\n") :].replace("  sql:", "  log:").replace("[sql1]", "[web2]")
    env = shop({"calls: {sql: 1}": "calls: {sql: 1, log: 1}", COPIES + "\n": COPIES + "\n" + second, **promised("{zone: {rpo: 10 min}}")})

    found = resilience(env, replications=80)

    assert {"application sql", "application log"} <= set(figures(found))
    [breach] = found.breaches
    assert ("zone a", "sql comes back from a backup every 24 h") == (str(breach.row.loss), breach.cause)
    assert ["log-archive"] == list(tried(breach))


def test_a_run_that_never_gets_there_takes_without_end(shop):
    # an installation of web fails in every run: after the loss of everything nobody serves
    broken = {"install: {duration: 120 s}": "install: {duration: 120 s, p_fail: 100 %}"}
    found = resilience(shop({**broken, **promised("{everything: {rto: 24 h}}")}), replications=80)

    assert math.inf == figures(found)["everything"].rto.tail
    assert "in 100 % of the runs the demand is not carried again" in found.breaches[0].cause
    assert found.breaches[0].trials and found.breaches[0].best is None
    assert json.loads(found.to_json())["disruptions"][-1]["rto_s"] == {"p50": None, "tail": None, "objective": 86400, "met": False}


def test_machines_are_alike_by_services_and_who_leads():
    fleet = load_environment("scenarios/fleet/production.yaml")

    kinds = {loss.which: len(loss.alike) for loss in losses(fleet) if loss.lose == "machine"}

    assert {"web1": 60, "api1": 10, "mid1": 24, "sql1": 1, "sql2": 2, "mon1": 2} == kinds


def test_a_hundred_machines_make_a_table_that_can_be_read():
    printed = invoke("scenarios/fleet/production.yaml", "--replications", "8")

    assert 4 == printed.exit_code, printed.output
    assert max(map(len, printed.stdout.splitlines())) <= 80
    assert len(printed.stdout.splitlines()) < 50
    assert "? too few replications to tell" in printed.stdout


def test_the_numbers_do_not_depend_on_the_number_of_jobs(shop):
    env = shop({POLICY: ""})

    assert resilience(env, 80, jobs=1).to_dict() == resilience(env, 80, jobs=2).to_dict()


def test_the_policy_decides_verdicts_and_no_figure(shop):
    stated, silent = resilience(shop(), 80), resilience(shop({POLICY: ""}), 80)

    assert [(r.rto.p50, r.rto.tail, r.rpo.tail) for r in stated.rows] == [(r.rto.p50, r.rto.tail, r.rpo.tail) for r in silent.rows]
    assert silent.all_met and not silent.breaches
    assert Policy() == plan_after(shop(), stated.rows[0].loss).environment.policy


def test_json_and_csv_hold_all_of_it(shop, tmp_path):
    env = shop()

    as_json = invoke(tmp_path / "shop.yaml", "--replications", "80", "--format", "json")
    as_csv = invoke(tmp_path / "shop.yaml", "--replications", "80", "--format", "csv")

    assert (4, 4) == (as_json.exit_code, as_csv.exit_code)
    assert resilience(env, 80).to_dict() == json.loads(as_json.stdout)
    assert 1 + 6 == len(as_csv.stdout.splitlines())
    assert as_csv.stdout.startswith("lose,which,alike,problem,rto_p50_s,rto_tail_s,rto_objective_s,rto_met,")


def test_it_exits_with_0_where_all_is_kept_or_nothing_promised(shop, tmp_path):
    shop(promised("{machine: {rto: 2 h}}"))
    shop({POLICY: ""}, "silent.yaml")

    kept, silent = (invoke(tmp_path / f, "--replications", "80", "--all") for f in ("shop.yaml", "silent.yaml"))

    assert (0, 0) == (kept.exit_code, silent.exit_code)
    assert "Everything that is promised is kept at p95." in kept.stdout
    assert "Nothing is promised; add a policy" in silent.stdout
    assert "machine web1" in kept.stdout and "zone b" in kept.stdout


@pytest.mark.parametrize("name", ["onebox", "test", "dogfood", "production"])
def test_the_canonical_environments_have_the_policy_of_production(name):
    env = load_environment(f"scenarios/canonical/{name}.yaml")

    assert (3600, 300, 900) == (env.policy.machine.rto_s, env.policy.machine.rpo_s, env.policy.zone.rpo_s)


def test_a_box_without_copies_has_no_recovery_and_says_why(tmp_path):
    onebox = pathlib.Path("scenarios/canonical/onebox.yaml").resolve()
    (tmp_path / "bare.yaml").write_text(f"like: {onebox}\nname: bare\nservices: {{sql: {{store: {{copies: []}}}}}}\n")
    printed = invoke(str(tmp_path / "bare.yaml"), "--replications", "80")

    assert 4 == printed.exit_code, printed.output
    said = " ".join(printed.stdout.split())
    assert "machine box none [2] none [2]" in said
    assert "[2] no recovery: nothing is left from which 'sql' could be restored; it has no copies" in said
    assert "everything, RPO 24 h: no recovery. Mended by a dump every night, kept out of reach" in said


def test_it_is_public_and_shows_itself_in_a_notebook(shop):
    found = simdeploy.resilience(shop(), replications=80)

    assert isinstance(found, simdeploy.Resilience)
    assert "<table>" in (shown := found._repr_mimebundle_()["text/html"]) and "Mended by" in shown
    assert "6 objectives missed" in repr(found)


SAME_ZONE = {k: v.replace("%s", "a") for k, v in STANDBY.items()}
WRONG = [
    ("shared-fate", {**SAME_ZONE, COPIES: FOLLOWED}, r"the standby of 'sql' cannot help: sql2 stands in zone a as its primary on sql1 does; .* rpo of a zone is 60 s: put one in another zone \(b\)"),
    ("archive-in-zone", {**SAME_ZONE, COPIES: f"{FOLLOWED[:-1]}, {{kind: log_archive, closes_every: 20 s, ships_in: 1 s, zone: a}}]"}, "the standby of 'sql' cannot help"),
    ("archive-alone", {**SAME_ZONE, COPIES: "copies: [{kind: standby}, {kind: log_archive, closes_every: 20 s, ships_in: 1 s}]"}, "the standby of 'sql' cannot help"),
    ("no-unit", {"rpo: 1 min": "rpo: 60"}, "60 has no unit"),
    ("negative", {"rpo: 1 min": "rpo: -1 min"}, "must be finite and not negative"),
    ("unknown-key", {"zone: {rto: 1 h, rpo: 1 min}": "region: {rto: 1 h}"}, "unknown key 'region'"),
    ("unknown-objective", {"rpo: 1 min": "mttr: 1 min"}, "unknown key 'mttr'"),
    ("quantile", {"policy:\n": "policy:\n  held_at: p90\n"}, "'p50', 'p95' or 'p99'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_policy_that_cannot_be_meant_is_refused_with_its_place(shop, changes, says):
    with pytest.raises(FileError, match=says) as error:
        shop(changes)

    assert 1 == len(error.value.faults), str(error.value)
    assert error.value.faults[0].line > 1


@pytest.mark.parametrize(
    "changes",
    [
        {**{k: v.replace("%s", "b") for k, v in STANDBY.items()}, COPIES: FOLLOWED},
        {**SAME_ZONE, COPIES: FOLLOWED, "rpo: 1 min": "rpo: 24 h"},  # p95 of the dump is 23.3 h
        {**SAME_ZONE, COPIES: f"{FOLLOWED[:-1]}, {{kind: log_archive, closes_every: 60 s, ships_in: 3 s}}]"},  # 3 + 0.95 x 60 = 60 s
        {**SAME_ZONE, COPIES: FOLLOWED.replace("standby", "standby, lag: 2 min")},  # it is not there for this promise
        {**SAME_ZONE, COPIES: FOLLOWED, **promised("{machine: {rpo: 5 s}}")},
    ],
    ids=["other-zone", "dump-does", "archive-does", "too-late-anyway", "machines-alone"],
)
def test_a_standby_beside_its_primary_is_sound_where_the_promise_does_not_hang_on_it(shop, changes):
    assert shop(changes)


def test_what_is_no_environment_is_said_to_be_none(tmp_path):
    (tmp_path / "plan.json").write_text("{}")

    scenario, plan, missing = map(invoke, ("scenarios/canonical/upgrade.yaml", tmp_path / "plan.json", tmp_path / "none.yaml"))

    assert (2, 2, 2) == (scenario.exit_code, plan.exit_code, missing.exit_code)
    assert "is a scenario, and resilience is about an environment; name the file" in scenario.stderr
    assert "is a plan, and resilience is about an environment" in plan.stderr
    assert "cannot be read" in missing.stderr
    with pytest.raises(StudyError, match="a str is no Environment; read one with load_environment"):
        resilience("shop.yaml")


def test_an_environment_whose_people_say_nothing_cannot_be_asked(shop, tmp_path):
    shop({"detect: 120 s, noticed: 30 min, decide: 600 s, ": ""})

    said = invoke(tmp_path / "shop.yaml")

    assert 2 == said.exit_code
    assert "environment 'shop' does not say how its people answer a disaster: 'recovery' lacks detect and decide; add" in said.stderr
