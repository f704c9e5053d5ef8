"""The exported script, run by a real sh: it does what the plan says, in its order, and passes every word as it is."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simdeploy.environment.durations import fixed
from simdeploy.errors import PlanError
from simdeploy.export.formats import export
from simdeploy.export.words import shell_line
from simdeploy.plan.steps import Judge, Step
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from tests.export.helpers import HOSTILE, TEXTS, farm_plan, log, recorder, rounds, shell, two_batches, words

ROOT = pathlib.Path(__file__).parent.parent.parent
SAMPLE = [
    ("canonical/upgrade-with-validation.yaml", "canary-forward"), ("canonical/upgrade.yaml", "drain-expand-parallel"),
    ("fleet/upgrade.yaml", "plan-5-back"), ("canonical/data-restore.yaml", "archive"), ("canonical/procedure.yaml", "look-first"),
]  # fmt: skip


def needs_shellcheck():
    if shutil.which("shellcheck") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("shellcheck is missing; install it with: apt-get install shellcheck")
        pytest.skip("shellcheck is missing; install it with: apt-get install shellcheck")


def test_everything_runs_in_order_and_ends_with_0(tmp_path):
    ended = shell(two_batches(tmp_path), tmp_path, "--yes", "--local")

    assert (0, ["drain w0", "install w0", "look", "drain w1", "install w1"]) == (ended.returncode, words(tmp_path)), ended


def test_a_judge_that_counts_too_many_failures_leads_to_the_rollback_of_what_began(tmp_path):
    ended = shell(two_batches(tmp_path, broken="install w1"), tmp_path, "--yes", "--local")

    assert ["drain w0", "install w0", "look", "drain w1", "install w1", "back w0", "out w1"] == words(tmp_path), ended
    assert 8 == ended.returncode


def test_a_gate_that_says_no_rolls_back_and_touches_nothing_else(tmp_path):
    ended = shell(two_batches(tmp_path, broken="look"), tmp_path, "--yes", "--local")

    assert (8, ["drain w0", "install w0", "look", "back w0"]) == (ended.returncode, words(tmp_path)), ended


def test_beyond_the_point_of_no_return_an_abort_halts(tmp_path):
    ended = shell(two_batches(tmp_path, broken="look", final=True), tmp_path, "--yes", "--local")

    assert (5, ["drain w0", "install w0", "look"]) == (ended.returncode, words(tmp_path)), ended


def test_a_rollback_that_fails_halts_with_5(tmp_path):
    ended = shell(farm_plan([
        Step(id="a", fatal=True, run=recorder(tmp_path, "1", "a")),
        Step(id="b", section="rollback", began=("a",), run=recorder(tmp_path, "1", "b")),
    ], on_abort="rollback"), tmp_path, "--yes", "--local")  # fmt: skip

    assert (5, ["a", "b"]) == (ended.returncode, words(tmp_path)), ended


@pytest.mark.parametrize(
    ("bad", "code", "expected"),
    [
        (0, 0, ["install 0", "look 0"]),
        (1, 0, ["install 0", "look 0", "install 1", "look 1"]),
        (2, 8, ["install 0", "look 0", "install 1", "look 1", "back"]),
    ],
)
def test_forward_rounds_follow_each_other_and_the_last_one_is_rolled_back(tmp_path, bad, code, expected):
    ended = shell(rounds(tmp_path, bad), tmp_path, "--yes", "--local")

    assert (code, expected) == (ended.returncode, words(tmp_path)), ended


def test_what_its_check_finds_there_is_not_run(tmp_path):
    plan = farm_plan([Step(id="a", run=recorder(tmp_path, "0", "run"), check=recorder(tmp_path, "0", "check"))])

    assert (0, ["check"]) == (shell(plan, tmp_path, "--yes").returncode, words(tmp_path))


def test_a_step_has_its_attempts_and_a_time_out_ends_one(tmp_path):
    plan = farm_plan([
        Step(id="a", run=recorder(tmp_path, "times:3", "a"), retries=2, retry_delay=fixed(0.01)),
        Step(id="b", after=("a",), run=("sleep", "60"), timeout_s=0.2),
        Step(id="c", needs=("b",), run=recorder(tmp_path, "0", "c")),
    ])  # fmt: skip

    ended = shell(plan, tmp_path, "--yes")

    assert (5, ["a", "a", "a"]) == (ended.returncode, words(tmp_path)), ended
    assert "skipped: c" in ended.stdout


@pytest.mark.parametrize(
    ("limit", "unit", "of", "stops"),
    [
        (1, "count", "batch", False), (0, "count", "batch", True), (50, "percent", "batch", False), (49, "percent", "batch", True),
        (0, "count", "all_of_batch", False), (None, "count", "plan", False),
    ],
)  # fmt: skip
def test_judges_count_as_the_model_says(tmp_path, limit, unit, of, stops):
    """One of two fails: 1 is not more than 1, nor than half of 2."""
    judge = Judge(watch=("a", "b"), size=2, limit=limit, unit=unit, of=of)
    plan = farm_plan([
        Step(id="a", run=("false",)), Step(id="b", run=("true",)), Step(id="j", kind="judge", after=("a", "b"), judge=judge),
        Step(id="c", after=("j",), run=recorder(tmp_path, "0", "c")),
    ])  # fmt: skip

    shell(plan, tmp_path, "--yes")

    assert ([] if stops else ["c"]) == words(tmp_path)


def test_who_declines_goes_on_later_where_it_stopped(tmp_path):
    plan = two_batches(tmp_path)

    assert 9 == shell(plan, tmp_path, "--local", answers="y\nn\n").returncode
    assert ["drain w0", "install w0", "look"] == words(tmp_path)
    assert 0 == shell(plan, tmp_path, "--local", "--yes").returncode
    assert ["drain w0", "install w0", "look", "drain w1", "install w1"] == words(tmp_path)


def test_a_person_may_roll_back_what_the_records_say_was_done(tmp_path):
    plan = two_batches(tmp_path)
    shell(plan, tmp_path, "--local", answers="y\nn\n")

    assert 8 == shell(plan, tmp_path, "--local", "--yes", "--rollback").returncode
    assert ["back w0"] == words(tmp_path)[3:]


def test_what_an_interrupted_run_left_unknown_blocks_unless_a_check_decides(tmp_path):
    unchecked, state = farm_plan([Step(id="a", run=recorder(tmp_path, "0", "a"))]), tmp_path / "state"
    checked = farm_plan([Step(id="a", run=recorder(tmp_path, "0", "a"), check=recorder(tmp_path, "1", "check"))])
    for plan, code, expected in ((unchecked, 6, []), (checked, 0, ["check", "a"])):
        state.mkdir()
        (state / "plan").write_text(plan.digest + "\n")
        (state / "1.began").touch()
        ended = shell(plan, tmp_path, "--yes", "--state", "state")
        assert (code, expected) == (ended.returncode, words(tmp_path)), ended
        shutil.rmtree(state)


def test_another_plan_and_another_operator_are_refused(tmp_path):
    plan = two_batches(tmp_path)
    shell(plan, tmp_path, "--local", "--yes", "--state", "s")

    assert 3 == shell(two_batches(tmp_path, final=True), tmp_path, "--local", "--yes", "--state", "s").returncode
    (tmp_path / "s" / "lock").mkdir()
    assert 7 == shell(plan, tmp_path, "--local", "--yes", "--state", "s").returncode


def test_a_secret_arrives_over_the_input_and_stands_nowhere_else(tmp_path):
    plan = farm_plan([Step(id="a", on="w0", run=recorder(tmp_path, "0", "a"), secrets={"TOKEN": "vault:a/b"})])

    assert 2 == shell(plan, tmp_path, "--yes", "--local").returncode
    ended = shell(plan, tmp_path, "--yes", "--local", TOKEN="$(id) 'x'")

    assert 0 == ended.returncode, ended
    assert "\"$(id) 'x'\"" in (tmp_path / "log").read_text()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "log" and "(id)" in p.read_text(errors="replace")]
    assert 2 == shell(plan, tmp_path, "--yes", "--local", TOKEN="two\nlines").returncode


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(list(HOSTILE))
def test_every_word_arrives_as_it_is_here_and_through_a_shell_on_the_host(tmp_path, argv):
    """The stand-in for ssh does what ssh does: it hands one line to a shell."""
    (tmp_path / "ssh").write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    (tmp_path / "ssh").chmod(0o755)
    for path in (tmp_path / "log", tmp_path / "state"):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    plan = farm_plan(
        [Step(id="a", run=recorder(tmp_path, "0", *argv)), Step(id="b", on="w0", run=recorder(tmp_path, "0", *argv), after=("a",))]
    )

    ended = shell(plan, tmp_path, "--yes", "--state", "state", RUN_ON=str(tmp_path / "ssh"))

    assert [argv, argv] == log(tmp_path), ended


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_names_of_steps_change_nothing_and_bring_no_control_character_to_the_terminal(tmp_path, name):
    subprocess.run(["rm", "-rf", str(tmp_path / "state"), str(tmp_path / "log")], check=True)
    plan = farm_plan([Step(id="x" + name, target=name, run=recorder(tmp_path, "0", "a"))], source={"scenario": name, "strategy": name})

    ended = shell(plan, tmp_path, "--yes", "--state", "state")

    assert (0, ["a"]) == (ended.returncode, words(tmp_path)), ended
    assert all(c.isprintable() or c == "\n" for c in ended.stdout + export(plan, "shell"))


@given(st.lists(TEXTS, min_size=1, max_size=5))
@example(list(HOSTILE))
@settings(max_examples=50)
def test_a_line_for_a_shell_is_these_words(argv):
    printed = subprocess.run(["sh", "-c", f"printf '%s\\0' {shell_line(argv)}"], capture_output=True, check=True).stdout

    assert argv == printed.decode().split("\0")[:-1]


def test_what_no_command_line_can_carry_is_refused():
    with pytest.raises(PlanError, match="NUL"):
        export(farm_plan([Step(id="a", run=("x", "a\0b"))]), "shell")
    with pytest.raises(PlanError, match="'a-b' is no name of a shell's variable; use letters, digits and _, as in 'a_b'"):
        export(farm_plan([Step(id="a", run=("x",), secrets={"a-b": "vault:x"})]), "shell")


@pytest.mark.parametrize(("file", "strategy"), SAMPLE)
def test_scripts_of_shipped_scenarios_are_sound_for_sh_and_shellcheck(tmp_path, file, strategy):
    needs_shellcheck()
    script = tmp_path / "plan.sh"
    script.write_text(export(build_plan(load_scenario(ROOT / "scenarios" / file), strategy), "shell"))

    assert "" == subprocess.run(["sh", "-n", script], capture_output=True, text=True).stderr
    assert "" == subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True).stdout


def test_a_secret_may_not_bear_the_name_of_a_variable_of_the_script():
    for name in ("STATE", "limit", "need", "answer", "yes"):
        with pytest.raises(PlanError, match=f"{name}_SECRET"):
            export(farm_plan([Step(id="a", run=("x",), secrets={name: "vault:x"})]), "shell")
