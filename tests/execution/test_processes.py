"""`simdeploy run` as processes on this machine: signals, kills, sleeps, rivals, full disks, and what each leaves behind."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from simdeploy.environment.models import Environment
from simdeploy.execution.journal import read_journal
from simdeploy.execution.measuring import trace_of
from simdeploy.execution.operating import Settings, begin
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Gate, Step
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.study.dossier import dossier, write_dossier
from tests.builders import assert_legal, farm

LOCAL = ("--accept-findings", "--transport", "local")
SIMDEPLOY = [sys.executable, "-m", "simdeploy"]


class Desk:
    """An operator's desk: a plan of steps that each append a line to a file, and processes that run it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.effects = folder / "effects"
        self.journal = folder / "journal"
        self.plan_file = folder / "plan.json"
        self.env = {**os.environ, "SIMDEPLOY_STATE": str(folder / "hosts"), "PYTHONPATH": os.getcwd(), "CANARY": "canary-91ab"}
        self.processes: list[subprocess.Popen[Any]] = []

    def write(self, *sleeps: float, gate: bool = False, environment: Environment | None = None, **fields: Any) -> Plan:
        """A plan of one step after the other; step k sleeps, then appends its name."""
        steps: list[Step] = []
        for k, s in enumerate(sleeps):
            name = f"work/w0/s{k}"
            run = ("sh", "-c", f"echo began-{k} >> {self.folder}/began; sleep {s}; echo s{k} >> {self.effects}")
            check = ("sh", "-c", f"grep -qx s{k} {self.effects}")
            steps.append(Step(id=name, on="w0", needs=tuple(x.id for x in steps[-1:]), run=run, check=check, timeout_s=30.0, **fields))
        if gate:
            steps.insert(1, Step(id="approve", kind="gate", after=(steps[0].id,), gate=Gate(reaction="halt")))
            steps[2] = steps[2].model_copy(update={"needs": ("approve",)})
        plan = Plan(environment=environment or farm(2, 100.0, 50.0), steps=tuple(steps))
        write_dossier(dossier(plan, 20), self.plan_file)
        return plan

    def start(self, *words: str, journal: pathlib.Path | None = None) -> subprocess.Popen[str]:
        if not words:
            words = (
                "run",
                str(self.plan_file),
                "--journal",
                str(journal or self.journal),
                "--transport",
                "local",
                "--yes",
                "--accept-findings",
            )
        process = subprocess.Popen(
            [*SIMDEPLOY, *words], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.processes.append(process)
        return process

    def do(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def resume(self) -> tuple[int, str]:
        return self.do("resume", str(self.journal), "--yes")

    def until(self, true: Any) -> None:
        end = time.monotonic() + 30
        while not true():
            assert time.monotonic() < end, "it never happens"
            time.sleep(0.02)

    def until_began(self, k: int) -> None:
        began = self.folder / "began"
        self.until(lambda: began.exists() and f"began-{k}" in began.read_text())

    def done(self) -> list[str]:
        return self.effects.read_text().split() if self.effects.exists() else []

    def lock(self) -> bool:
        return any((self.folder / "hosts").glob("*/lock"))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_a_plan_runs_and_its_journal_is_a_trace(desk):
    plan = desk.write(0.0, 0.0, 0.0)
    code, said = desk.do()

    assert code == 0 and "outcome: success" in said and desk.done() == ["s0", "s1", "s2"] and not desk.lock()
    assert_legal(plan, trace_of(plan, read_journal(desk.journal)))
    assert not list((desk.folder / "hosts").glob("*/runs/*"))  # it has cleaned up


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_lets_what_runs_end_and_begins_nothing_more(desk, number):
    desk.write(0.0, 0.8, 0.0)
    process = desk.start()
    desk.until_began(1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)

    assert process.returncode == 130 and desk.done() == ["s0", "s1"] and not desk.lock()
    assert f"simdeploy resume {desk.journal}" in " ".join(said.split())
    assert desk.resume()[0] == 0 and desk.done() == ["s0", "s1", "s2"]


def test_a_second_signal_ends_what_runs(desk):
    desk.write(0.0, 20.0)
    process = desk.start()
    desk.until_began(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode == 130 and time.monotonic() - began < 12 and desk.done() == ["s0"] and not desk.lock()
    assert [e.body["word"] for e in read_journal(desk.journal) if e.kind == "result"] == ["succeeded", "cancelled"]
    code, said = desk.do("status", str(desk.journal))
    assert code == 0 and "cancelled" in said and "simdeploy resume" in said


@pytest.mark.parametrize(("answer", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), ("n", 9), ("y", 0)], ids=str)
def test_the_first_question_holds_nobody_and_a_signal_answers_it(desk, answer, code):
    desk.write(0.0)
    keyboard, screen = pty.openpty()
    words = ["run", str(desk.plan_file), "--journal", str(desk.journal), *LOCAL]
    process = subprocess.Popen([*SIMDEPLOY, *words], env=desk.env, stdin=screen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    desk.processes.append(process)
    said = b""
    while b"Begin?" not in said:
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, said
        said += piece
    time.sleep(0.3)
    os.write(keyboard, f"{answer}\n".encode()) if isinstance(answer, str) else process.send_signal(answer)
    process.communicate(timeout=15)
    os.close(keyboard), os.close(screen)

    assert process.returncode == code and not desk.lock() and desk.done() == (["s0"] if answer == "y" else [])
    if isinstance(answer, signal.Signals):
        assert read_journal(desk.journal)[-1].body["outcome"] == "interrupted"


def test_before_the_question_findings_that_were_accepted_are_shown(desk):
    plan = desk.write(0.0)
    plan = plan.model_copy(update={"steps": tuple(s.model_copy(update={"check": ()}) for s in plan.steps)})
    write_dossier(dossier(plan, 20), desk.plan_file)
    code, said = desk.do("run", str(desk.plan_file), "--journal", str(desk.journal), *LOCAL)

    assert code == 9 and "Not clean: 1 error" in said and "  error checks/" in said and "work/w0/s0 has a command and no check" in said


def test_a_signal_while_it_waits_for_the_lock_leaves_nothing(desk):
    desk.write(3.0)
    first = desk.start()
    desk.until_began(0)
    second = desk.folder / "second"
    words = ("run", str(desk.plan_file), "--journal", str(second), "--transport", "local", "--yes", "--accept-findings", "--wait", "60")
    waiting = desk.start(*words)
    desk.until(second.exists)
    time.sleep(0.5)
    waiting.send_signal(signal.SIGINT)
    said, _ = waiting.communicate(timeout=10)

    assert waiting.returncode == 130 and "Nothing was begun" in said and first.poll() is None and desk.lock()
    assert first.wait(30) == 0 and not desk.lock() and desk.done() == ["s0"]


def test_killed_in_mid_step_it_is_resumed_and_nothing_is_done_twice(desk):
    plan = desk.write(0.0, 1.0, 0.0)
    process = desk.start()
    desk.until_began(1)
    process.kill()
    process.wait()
    assert desk.lock()
    code, said = desk.do("status", str(desk.journal))
    assert code == 0 and "what became of it is not known here" in " ".join(said.split()) and "simdeploy resume" in said

    code, said = desk.resume()
    assert code == 0 and desk.done() == ["s0", "s1", "s2"] and "asking w0 what became of it" in said and not desk.lock()
    assert trace_of(plan, read_journal(desk.journal)).outcome == "success"


def test_a_controller_that_was_suspended_goes_on(desk):
    desk.write(0.0, 0.5, 0.0)
    process = desk.start()
    desk.until_began(1)
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=30)

    assert process.returncode in (0, 9)  # 9: later than the forecast's P99, which is a pause
    assert desk.resume()[0] == 0 if process.returncode else True
    assert desk.done() == ["s0", "s1", "s2"]


def test_of_eight_operators_at_once_one_runs_and_seven_are_told_by_whom(desk):
    desk.write(4.0)
    rivals = [desk.start(journal=desk.folder / f"j{k}") for k in range(8)]
    said = [p.communicate(timeout=90)[0] for p in rivals]

    assert sorted(p.returncode for p in rivals) == [0] + [7] * 7
    assert all(
        "operates this environment" in s and f"unlock {desk.plan_file} --run" in " ".join(s.split())
        for p, s in zip(rivals, said, strict=True)
        if p.returncode == 7
    )
    assert desk.done() == ["s0"] and not desk.lock()


def test_an_operator_that_sleeps_through_an_unlock_is_refused_when_it_wakes(desk):
    desk.write(0.0, 1.0, 0.0)
    sleeper = desk.start()
    desk.until_began(1)
    sleeper.send_signal(signal.SIGSTOP)
    run = read_journal(desk.journal)[0].body["run"]
    code, said = desk.do("unlock", str(desk.plan_file), "--run", "another", "--transport", "local", "--because", "test")
    assert code == 2 and "not by run 'another'" in " ".join(said.split())
    code, said = desk.do("unlock", str(desk.plan_file), "--run", run, "--transport", "local", "--because", "its laptop is gone")
    assert code == 0 and "freed: it was held by" in said
    sleeper.send_signal(signal.SIGCONT)
    said, _ = sleeper.communicate(timeout=30)

    assert sleeper.returncode == 7 and "somebody has taken over" in said and desk.done() == ["s0", "s1"]
    assert desk.resume()[0] == 0 and desk.done() == ["s0", "s1", "s2"]


def test_a_full_disk_under_the_journal_ends_with_74_and_names_what_is_in_flight(desk):
    desk.write(*[0.0] * 12)
    words = " ".join([*SIMDEPLOY, "run", str(desk.plan_file), "--journal", str(desk.journal), "--transport local --yes --accept-findings"])
    full = subprocess.run(
        ["bash", "-c", f"ulimit -S -f 5; exec {words}"], env=desk.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert full.returncode == 74 and "cannot be written" in full.stderr and "In flight:" in full.stderr
    before = len(desk.done())
    assert desk.resume()[0] == 0 and desk.done() == [f"s{k}" for k in range(12)] and before < 12


def test_who_cannot_write_the_journal_does_not_wait_for_what_runs(desk):
    plan = desk.write(*[0.0] * 12)
    long = Step(id="work/w1/long", on="w1", run=("sleep", "20"), check=("false",), timeout_s=30.0)
    write_dossier(dossier(plan.model_copy(update={"steps": (long, *plan.steps)}), 20), desk.plan_file)
    words = " ".join([*SIMDEPLOY, "run", str(desk.plan_file), "--journal", str(desk.journal), *LOCAL, "--yes"])
    began = time.monotonic()
    full = subprocess.run(
        ["bash", "-c", f"ulimit -S -f 5; exec {words}"], env=desk.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert full.returncode == 74 and "In flight: work/w1/long" in full.stderr and time.monotonic() - began < 12, full.stderr


def test_pause_status_and_answer_from_another_terminal(desk):
    desk.write(0.5, 0.0, gate=True)
    process = desk.start()
    desk.until(lambda: desk.journal.exists() and any(e.kind == "asked" for e in read_journal(desk.journal)))
    time.sleep(0.5)
    assert process.poll() is None and desk.done() == ["s0"]  # --yes does not answer a gate
    code, said = desk.do("status", str(desk.journal), "--format", "json")
    assert code == 0 and json.loads(said)["outcome"] == "running" and "waits for a person" in json.loads(said)["in_flight"]["approve"]
    assert desk.do("answer", str(desk.journal), "approve", "yes", "--because", "the page is right")[0] == 0
    process.communicate(timeout=30)
    assert process.returncode == 0 and desk.done() == ["s0", "s1"]
    answered = next(e.body for e in read_journal(desk.journal) if e.kind == "answered")
    assert answered["because"] == "the page is right" and answered["who"]


def test_a_plan_or_a_topology_that_was_changed_after_vetting_is_refused(desk):
    plan = desk.write(0.0)
    whole = desk.plan_file.read_text()
    desk.plan_file.write_text(whole.replace("sleep 0.0", "sleep 0.1"))
    code, said = desk.do()
    assert code == 3 and "was changed after it was written" in said and not desk.done()
    content = json.loads(whole)
    content["environment"]["machines"].append({"name": "w9"})
    desk.plan_file.write_text(json.dumps(content))
    code, said = desk.do()
    assert code == 3 and not desk.done()

    other = plan.model_copy(update={"on_abort": "rollback"})
    desk.plan_file.write_text(other.to_json())
    code, said = desk.do()
    assert code == 3 and "is of the plan" in said and not desk.journal.exists()


def test_a_scenario_that_makes_another_plan_today_is_refused(desk):
    folder = desk.folder / "scenario"
    assert desk.do("init", str(folder))[0] == 0
    scenario = next(f for f in folder.glob("*.yaml") if "strategies" in f.read_text())
    strategy = next(iter(json.loads(desk.do("vet", str(scenario), "--format", "json")[1])))
    assert desk.do("plan", str(scenario), "--strategy", strategy, "-o", str(desk.plan_file), "--replications", "20")[0] == 0
    words = ("run", str(desk.plan_file), "--dry-run", "--scenario", str(scenario))
    assert desk.do(*words)[0] == 0
    environment = folder / "environment.yaml"
    environment.write_text(environment.read_text().replace("machines:", "recovery: {hands: 3}\nmachines:"))
    code, said = desk.do(*words)
    assert code == 3 and "makes another plan today" in said and "simdeploy diff" in said


def test_secrets_are_in_no_artefact_and_in_no_list_of_processes(desk):
    canary = desk.env["CANARY"]
    plan = Plan(
        environment=farm(1, 100.0, 50.0),
        steps=(
            Step(
                id="work/w0/s0",
                on="w0",
                run=("sh", "-c", f'test "${{PASS%91ab}}" = canary- && echo "it is $PASS"; sleep 1; echo s0 >> {desk.effects}'),
                check=("sh", "-c", f'test -n "$PASS" && grep -qx s0 {desk.effects}'),
                secrets={"PASS": "env:CANARY"},
            ),
        ),
    )
    write_dossier(dossier(plan, 20), desk.plan_file)
    process = desk.start()
    lines: set[bytes] = set()
    while process.poll() is None:
        for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.add(file.read_bytes())
            except OSError:
                continue
    said = process.communicate()[0]

    assert process.returncode == 0 and desk.done() == ["s0"]
    assert any(b"sleep" in line for line in lines) and not any(canary.encode() in line for line in lines)
    artefacts = [f for f in desk.folder.rglob("*") if f.is_file()]
    assert len(artefacts) > 4 and not any(canary.encode() in f.read_bytes() for f in artefacts)
    assert canary not in said and "it is ***" in "".join(e.body.get("tail", "") for e in read_journal(desk.journal))
    del desk.env["CANARY"]
    (desk.folder / "effects").unlink()
    code, said = desk.do("run", str(desk.plan_file), "--check", "--transport", "local")
    assert code == 3 and "env:CANARY" in said


def test_a_step_that_runs_is_said_to_run_and_one_that_was_left_is_not_known(desk):
    desk.write(20.0)
    process = desk.start()
    desk.until_began(0)
    assert "attempt 1 is under way" in " ".join(desk.do("status", str(desk.journal))[1].split())
    process.kill()
    process.wait()
    assert "what became of it is not known here" in " ".join(desk.do("status", str(desk.journal))[1].split())


def test_what_cannot_be_heeded_any_more_is_refused(desk):
    desk.write(0.0, 0.0, gate=True)
    process = desk.start()
    desk.until(lambda: desk.journal.exists() and any(e.kind == "asked" for e in read_journal(desk.journal)))
    code, said = desk.do("skip", str(desk.journal), "work/w0/s0", "--because", "x")
    assert code == 2 and "has ended already (succeeded)" in said
    assert desk.do("answer", str(desk.journal), "approve", "yes", "--because", "x")[0] == 0
    process.communicate(timeout=30)
    code, said = desk.do("status", str(desk.journal))
    assert code == 0 and f"simdeploy measure {desk.plan_file} {desk.journal}" in " ".join(said.split())
    code, said = desk.do("pause", str(desk.journal))
    assert code == 2 and "this run has ended (success)" in said and "simdeploy status" in said


def test_what_a_judge_decides_cannot_be_skipped(desk):
    plan = build_plan(load_scenario("scenarios/canonical/upgrade.yaml"), "drain-expand")
    write_dossier(dossier(plan, 20), desk.plan_file)
    begin(plan, desk.journal, Settings("local"), desk.plan_file).close()
    judge = next(s.id for s in plan.steps if s.judge)
    code, said = desk.do("skip", str(desk.journal), judge, "--because", "x")
    assert code == 2 and f"'{judge}' is decided by what the steps before it did" in " ".join(said.split())


def test_a_dry_run_contacts_nothing_and_check_changes_nothing(desk):
    desk.write(0.0, 0.0)
    code, said = desk.do("run", str(desk.plan_file), "--dry-run")
    assert code == 0 and said.count("send:") == 2 and not (desk.folder / "hosts").exists()
    code, said = desk.do("run", str(desk.plan_file), "--check", "--transport", "local")
    assert code == 0 and "as expected" in said and not (desk.folder / "hosts").exists() and not desk.done()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "{plan}"], 2, "add --journal FILE"),
        (["run", "{folder}/none.json", "--journal", "{folder}/j"], 2, "none.json"),
        (
            ["run", "{plan}", "--journal", "{folder}/none/j", *LOCAL],
            74,
            "name a file that you may write",
        ),
        (["run", "{plan}", "--journal", "{plan}", *LOCAL], 2, "is there already"),
        (["run", "{plan}", "--journal", "{folder}/j", *LOCAL, "--lock-host", "x"], 2, "is no machine"),
        (
            ["run", "{plan}", "--journal", "{folder}/j", *LOCAL, "--probe", "x"],
            2,
            "is nothing to probe",
        ),
        (["resume", "{plan}"], 2, "is no journal of a run"),
        (["status", "{folder}/none"], 2, "name the journal of a run"),
        (["skip", "{folder}/none", "x", "--because", "y"], 2, "name the journal of a run"),
        (["unlock", "{plan}", "--run", "r", "--transport", "local", "--because", "x"], 2, "nobody holds the lock"),
        (["measure", "{plan}", "{plan}"], 2, "is no journal of a run"),
        (["hosts", "trust", "{folder}/none.json"], 2, "none.json"),
    ],
)
def test_wrong_input_is_told_with_its_way_out(desk, words, code, says):
    desk.write(0.0)
    got, said = desk.do(*(w.format(plan=desk.plan_file, folder=desk.folder) for w in words))

    assert got == code and says in " ".join(said.split()) and "Traceback" not in said, said
    assert not desk.done()
