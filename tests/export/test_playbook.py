"""The exported playbook, run by the real ansible-playbook against this machine."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
from ansible.parsing.dataloader import DataLoader
from hypothesis import given, settings

from simdeploy.environment.durations import fixed
from simdeploy.export.formats import export
from simdeploy.plan.steps import Judge, Step
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from tests.export.helpers import HOSTILE, TEXTS, ansible, farm_plan, log, recorder, rounds, two_batches, words
from tests.export.test_script import SAMPLE

ROOT = pathlib.Path(__file__).parent.parent.parent


def loaded(plan):
    return DataLoader().load(export(plan, "ansible"))


def tasks(task):
    return [t for inner in task.get("block", [task]) for t in (tasks(inner) if "block" in inner else [inner])]


def commands(plays):
    return [t["ansible.builtin.command"] for play in plays for task in play["tasks"] for t in tasks(task) if "ansible.builtin.command" in t]


@pytest.mark.parametrize(
    ("broken", "final", "code", "expected"),
    [
        ("", False, 0, ["drain w0", "install w0", "look", "drain w1", "install w1"]),
        ("look", False, 2, ["drain w0", "install w0", "look", "back w0"]),
        ("look", True, 2, ["drain w0", "install w0", "look"]),
        ("install w1", False, 2, ["drain w0", "install w0", "look", "drain w1", "install w1", "out w1", "back w0"]),
    ],
)
def test_a_run_goes_batch_by_batch_and_rolls_back_what_began(tmp_path, broken, final, code, expected):
    ended = ansible(two_batches(tmp_path, broken, final=final), tmp_path)

    assert (code, expected) == (ended.returncode, words(tmp_path)), ended.stdout


@pytest.mark.parametrize(("bad", "code"), [(1, 0), (2, 2)])
def test_forward_rounds_follow_each_other_and_the_last_one_is_rolled_back(tmp_path, bad, code):
    ended = ansible(rounds(tmp_path, bad), tmp_path)

    expected = ["install 0", "look 0", "install 1", "look 1", "back"]
    assert (code, expected[: 3 + bad]) == (ended.returncode, words(tmp_path)), ended.stdout


def test_checks_retries_time_outs_skips_and_limits_hold(tmp_path):
    """Of three boxes one fails: not more than 1, so the plan goes on; what needed it is skipped on that box alone."""
    lanes = [
        s
        for m in ("w0", "w1", "w2")
        for s in (
            Step(
                id=f"a/web@{m}",
                target=f"web@{m}",
                on=m,
                run=recorder(tmp_path, "0", "a", m),
                check=recorder(tmp_path, f"seen:{tmp_path}/{m}"),
            ),
            Step(id=f"b/web@{m}", target=f"web@{m}", on=m, run=("sh", "-c", f"test {m} != w1"), needs=(f"a/web@{m}",)),
            Step(id=f"c/web@{m}", target=f"web@{m}", on=m, run=recorder(tmp_path, "0", "c", m), needs=(f"b/web@{m}",)),
        )
    ]
    judge = Judge(watch=tuple(s.id for s in lanes), size=3, limit=1)
    plan = farm_plan([
        *lanes, Step(id="j", kind="judge", after=judge.watch, judge=judge),
        Step(id="d", after=("j",), run=recorder(tmp_path, "times:3", "d"), retries=2, retry_delay=fixed(0)),
        Step(id="e", after=("d",), run=("sleep", "60"), timeout_s=1),
        Step(id="f", needs=("e",), run=recorder(tmp_path, "0", "f")),
        Step(id="g", needs=("c/web@w0",), after=("e",), run=recorder(tmp_path, "0", "g")),
    ], count=3)  # fmt: skip
    (tmp_path / "w2").touch()

    ended = ansible(plan, tmp_path)

    said = [w for w in words(tmp_path) if w]
    assert (["a w0", "a w1"], ["c w0", "c w2"], ["d", "d", "d", "g"]) == (sorted(said[:2]), sorted(said[2:4]), said[4:]), ended.stdout
    assert 2 == ended.returncode


def test_every_word_arrives_as_it_is(tmp_path):
    """Alone, and where three hosts share a task: once as Ansible's own template, once host by host."""
    alone = [Step(id=f"alone/{k}", run=recorder(tmp_path, "0", word)) for k, word in enumerate(HOSTILE)]
    shared = [
        Step(id=f"{kind}/web@{m}", target=f"web@{m}", on=m, run=recorder(tmp_path, "0", kind, m, *more), after=(alone[-1].id,))
        for kind, more in (("template", (f"on-{'{m}'}",)), ("words", HOSTILE))
        for m in ("w0", "w1", "w2")
    ]
    shared = [s.model_copy(update={"run": tuple(w.replace("{m}", s.on) for w in s.run)}) for s in shared]
    hosts = [
        Step(id=f"braces/web@{m}", target=f"web@{m}", on=m, run=recorder(tmp_path, "0", f"{{{{ {m} }}}}"), after=(alone[-1].id,))
        for m in ("w0", "w1")
    ]
    plan = farm_plan([*alone, *shared, *hosts], count=3)

    ended = ansible(plan, tmp_path)

    wanted = [[w] for w in HOSTILE] + [["template", m, f"on-{m}"] for m in ("w0", "w1", "w2")]
    wanted += [["words", m, *HOSTILE] for m in ("w0", "w1", "w2")] + [["{{ w0 }}"], ["{{ w1 }}"]]
    assert sorted(wanted) == sorted(log(tmp_path)), ended.stdout
    assert 0 == ended.returncode


def test_a_secret_is_looked_up_when_it_runs_and_is_neither_written_nor_printed(tmp_path):
    plan = farm_plan([Step(id="a", run=recorder(tmp_path, "0", "a"), secrets={"TOKEN": "vault:a/b"})])

    ended = ansible(plan, tmp_path, "-vvv", TOKEN="s3cr{{ 1 }}t")

    assert 0 == ended.returncode, ended.stdout
    assert "s3cr{{ 1 }}t" in (tmp_path / "log").read_text()
    assert "s3cr" not in ended.stdout + (tmp_path / "plan.yaml").read_text()


@settings(max_examples=60)
@given(TEXTS, TEXTS)
def test_the_words_are_those_for_ansible_s_own_parser_and_names_are_one_line(word, name):
    plan = farm_plan([Step(id="x" + name, target=name, run=("program", word))], source={"scenario": name})

    plays = loaded(plan)

    assert [["program", word]] == [list(map(str, c["argv"])) for c in commands(plays)]
    assert all(c.isprintable() or c == "\n" for c in export(plan, "ansible"))


def test_no_word_is_expanded_by_a_shell_or_by_ansible():
    plays = loaded(farm_plan([Step(id="a", run=("echo", "$HOME", "~"), check=("test", "1"))]))

    assert [False, False] == [c["expand_argument_vars"] for c in commands(plays)]


def test_a_pool_bounds_how_many_hosts_do_it_at_once():
    steps = [Step(id=f"a/web@w{k}", target=f"web@w{k}", on=f"w{k}", run=("true",), pools=(("hands", 2),)) for k in range(6)]

    plays = loaded(farm_plan(steps, count=6, pools={"hands": 5}))

    assert [2] == [t["throttle"] for play in plays for task in play["tasks"] for t in tasks(task) if "throttle" in t]


@pytest.mark.parametrize(("file", "strategy"), SAMPLE[:4])
def test_playbooks_of_shipped_scenarios_pass_the_syntax_check(tmp_path, file, strategy):
    plan = build_plan(load_scenario(ROOT / "scenarios" / file), strategy)

    ended = ansible(plan, tmp_path, "--syntax-check")

    assert 0 == ended.returncode, ended


def test_hosts_that_share_a_task_with_a_secret_get_their_own_words(tmp_path):
    steps = [
        Step(id=f"a/web@{m}", target=f"web@{m}", on=m, run=recorder(tmp_path, "0", f"{{{m}}}"), secrets={"TOKEN": "vault:a"})
        for m in ("w0", "w1")
    ]

    ended = ansible(farm_plan(steps), tmp_path, TOKEN="it's")

    assert [["{w0}"], ["{w1}"]] == sorted(log(tmp_path)), ended.stdout
    assert 2 == (tmp_path / "log").read_text().count('"it\'s"')


def test_a_host_that_cannot_be_reached_is_a_failure_that_the_judge_counts(tmp_path):
    plan = two_batches(tmp_path)
    ansible(plan, tmp_path, "--syntax-check")  # writes the files
    here = f"{{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}"
    dead = "{ansible_host: 127.0.0.1, ansible_port: 1, ansible_connection: ssh}"
    (tmp_path / "hosts.yaml").write_text(f"all: {{hosts: {{localhost: {here}, w0: {here}, w1: {dead}}}}}")
    program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))

    ended = subprocess.run(
        [program, "-i", "hosts.yaml", "plan.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )

    assert ["drain w0", "install w0", "look", "back w0"] == words(tmp_path), ended.stdout
    assert 2 == ended.returncode and "UNREACHABLE" in ended.stdout
