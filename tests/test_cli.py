"""The command line: what it prints, how it exits, and that no bad input ever meets a traceback."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from simdeploy.cli import EXIT_CODES, main
from simdeploy.planning import starter

UPGRADE = "scenarios/canonical/upgrade.yaml"


def invoke(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


def test_help_prints_the_table_of_exit_codes():
    said = invoke("--help").output

    assert all(f"{code:>3}  {meaning}" in said for code, meaning in EXIT_CODES.items())


def test_version_is_the_one_of_pyproject():
    import tomllib

    with open("pyproject.toml", "rb") as file:
        version = tomllib.load(file)["project"]["version"]

    assert version in invoke("--version").output


def test_compare_prints_tables_of_80_columns_and_a_verdict():
    result = invoke("compare", UPGRADE, "--replications", "100")

    assert 0 == result.exit_code, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "Recommended: drain-expand-parallel" in result.stdout
    assert "expand of sql on sql1" in " ".join(result.stdout.split())


def test_compare_exits_4_when_no_strategy_meets_all_goals(tmp_path):
    text = pathlib.Path(UPGRADE).read_text().replace("environment: ", f"environment: {os.path.abspath('scenarios/canonical')}/")
    (tmp_path / "s.yaml").write_text(text.replace("p95(downtime_s) <= 30 s", "max(downtime_s) <= 0 s"))

    assert 4 == invoke("compare", str(tmp_path / "s.yaml"), "--replications", "20").exit_code


def test_json_and_csv_are_machine_readable():
    as_json = invoke(
        "compare", UPGRADE, "--replications", "80", "--format", "json", "--strategy", "drain-expand", "--strategy", "all-at-once"
    )
    as_csv = invoke(
        "compare", UPGRADE, "--replications", "80", "--format", "csv", "--strategy", "drain-expand", "--baseline", "stop-expand"
    )

    assert ["all-at-once", "drain-expand"] == [s["strategy"] for s in json.loads(as_json.stdout)["strategies"]]
    lines = as_csv.stdout.splitlines()
    assert lines[0].startswith("strategy,metric,unit,mean") and {"drain-expand", "stop-expand"} == {row.split(",")[0] for row in lines[1:]}


def test_a_plan_round_trips_through_its_file_and_forecasts_the_same(tmp_path):
    path = tmp_path / "plan.json"
    written = invoke("plan", UPGRADE, "--strategy", "drain-expand", "-o", str(path))
    from_scenario = invoke("simulate", UPGRADE, "--strategy", "drain-expand", "--replications", "80", "--format", "json")
    from_plan = invoke("simulate", str(path), "--replications", "80", "--format", "json")

    assert 0 == written.exit_code
    assert json.loads(from_scenario.stdout) == json.loads(from_plan.stdout)
    assert 0 == invoke("check", str(path)).exit_code


def test_trace_prints_the_events_of_one_replication_in_order():
    result = invoke("simulate", UPGRADE, "--strategy", "stop-expand", "--trace", "--format", "json", "--replication", "7")
    records = json.loads(result.stdout)["records"]

    assert 0 == result.exit_code
    assert [r["at_s"] for r in records] == sorted(r["at_s"] for r in records)
    assert {"began", "ended", "noticed"} == {r["kind"] for r in records}


def test_plot_writes_figures(tmp_path):
    both = ["--strategy", "drain-expand", "--baseline", "all-at-once"]

    result = invoke("compare", UPGRADE, "--replications", "20", *both, "--plot", str(tmp_path / "out"))

    names = ("capacity", "distributions", "differences", "gantt-drain-expand", "gantt-all-at-once")
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg")} == {p.name for p in (tmp_path / "out").iterdir()}
    assert result.exit_code in (0, 4)


def test_one_strategy_has_no_figure_of_differences(tmp_path):
    alone = ["--strategy", "drain-expand", "--baseline", "drain-expand"]

    invoke("compare", UPGRADE, "--replications", "20", *alone, "--plot", str(tmp_path))

    assert (tmp_path / "distributions.png").exists() and not (tmp_path / "differences.png").exists()


WRONG = {
    "a file that is not there": (("compare", "no-such.yaml"), "no-such.yaml:1:1: cannot be read"),
    "a folder": (("compare", "scenarios"), "scenarios:1:1: cannot be read"),
    "an unknown strategy": (("simulate", UPGRADE, "--strategy", "drain-expnd"), "did you mean 'drain-expand'"),
    "no strategy": (("simulate", UPGRADE), "name one with --strategy"),
    "an unknown baseline": (("compare", UPGRADE, "--baseline", "none"), "no strategy"),
    "no replications": (("compare", UPGRADE, "--replications", "0"), "--replications"),
    "an environment instead of a scenario": (("compare", "scenarios/canonical/production.yaml"), "production.yaml:"),
    "a plan that is no JSON": (("simulate", "README.md.json"), "README.md.json"),
    "a place that cannot be written": (
        ("plan", UPGRADE, "--strategy", "drain-expand", "-o", "/no/such/folder/plan.json"),
        "cannot be written",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_exits_2_with_the_culprit_and_no_traceback(name):
    arguments, message = WRONG[name]

    result = invoke(*arguments)

    assert 2 == result.exit_code
    assert message in result.output
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit)


def test_every_fault_of_a_file_is_reported_at_once(tmp_path):
    text = pathlib.Path("scenarios/canonical/production.yaml").read_text()
    text = text.replace("entry: balancer", "entry: balncer").replace("on: [web1, web2]", "on: [web1, web3]")
    (tmp_path / "env.yaml").write_text(text)

    result = invoke("check", str(tmp_path / "env.yaml"))

    assert 2 == result.exit_code
    assert "did you mean 'balancer'" in result.output and "'web3', which is no machine" in result.output
    assert all(line.startswith(f"{tmp_path}/env.yaml:") for line in result.output.splitlines())


def test_init_writes_files_that_run_and_says_what_to_type_next(tmp_path):
    folder = tmp_path / "my shop"

    said = invoke("init", str(folder))

    assert 0 == said.exit_code
    next_command = shlex.split(said.output.partition("Next: simdeploy ")[2])
    assert ["compare", str(folder / "upgrade.yaml")] == next_command
    assert 0 == invoke(*next_command, "--replications", "100").exit_code


def test_init_writes_over_no_file(tmp_path):
    (tmp_path / "upgrade.yaml").write_text("mine")

    said = invoke("init", str(tmp_path))

    assert 2 == said.exit_code
    assert f"{tmp_path}/upgrade.yaml:1:1: is there already" in said.output and "another folder" in said.output
    assert ["upgrade.yaml"] == [p.name for p in tmp_path.iterdir()] and "mine" == (tmp_path / "upgrade.yaml").read_text()


@pytest.mark.parametrize("late", ["environment.yaml", "upgrade.yaml"])
def test_init_leaves_nothing_behind_when_a_late_file_cannot_be_written(tmp_path, monkeypatch, late):
    def full(file, *arguments, **more):
        if pathlib.Path(file).name == late:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open(file, *arguments, **more)

    monkeypatch.setattr(starter, "open", full, raising=False)
    monkeypatch.setattr(pathlib.Path, "write_text", lambda path, text, **more: full(path, "w").write(text))

    said = invoke("init", str(tmp_path / "a" / "shop"))

    assert 2 == said.exit_code and "shop:1:1: cannot be written to (No space left" in said.output
    assert [] == list(tmp_path.iterdir())


def test_init_writes_through_no_link(tmp_path):
    (tmp_path / "upgrade.yaml").symlink_to(tmp_path / "elsewhere")

    assert 2 == invoke("init", str(tmp_path)).exit_code
    assert ["upgrade.yaml"] == [p.name for p in tmp_path.iterdir()]


@pytest.mark.parametrize("file", ["environment", "scenario"])
def test_the_printed_schema_is_the_one_that_init_writes_and_the_template_names(file, tmp_path):
    invoke("init", str(tmp_path))
    template = tmp_path / {"environment": "environment.yaml", "scenario": "upgrade.yaml"}[file]
    modeline, named = template.read_text().splitlines()[0].split("$schema=")

    assert "# yaml-language-server: " == modeline
    assert json.loads(invoke("schema", file).output) == json.loads((tmp_path / named).read_text())


def complete(words: str) -> list[str]:
    """What bash is offered for the last of *words*."""
    environment = {"_SIMDEPLOY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    said = CliRunner().invoke(main, [], prog_name="simdeploy", env=environment)
    return [line.partition(",")[2] for line in said.output.splitlines() if line]


def test_the_source_of_the_completion_for_bash_is_printed():
    said = CliRunner().invoke(main, [], prog_name="simdeploy", env={"_SIMDEPLOY_COMPLETE": "bash_source"})

    assert 0 == said.exit_code and "complete -o nosort -F _simdeploy_completion simdeploy" in said.output


@pytest.mark.parametrize(
    "words", ["compare FILE --strategy drain-e", "simulate --seed 1 FILE --strategy drain-e", "compare FILE --baseline drain-e"]
)
def test_the_strategies_of_the_given_scenario_are_completed(words):
    assert ["drain-expand", "drain-expand-parallel"] == complete(f"simdeploy {words}".replace("FILE", UPGRADE))


@pytest.mark.parametrize("words", ["compare --strategy d", "compare no-such.yaml --strategy d", "simulate README.md --strategy d"])
def test_no_strategy_is_completed_where_none_is_known(words):
    assert [] == complete(f"simdeploy {words}")


@pytest.mark.slow
def test_an_interrupt_gives_the_replications_done_so_far():
    command = [sys.executable, "-m", "simdeploy", "compare", UPGRADE, "--replications", "2000000", "--jobs", "1", "--format", "json"]
    for patience_s in (6, 20, 60):  # a busy machine may need longer for the first replications of all strategies
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(patience_s)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)  # what has begun is done
        if out:
            break

    assert 130 == process.returncode, err
    assert 0 < json.loads(out)["replications"] < 2_000_000
    assert "interrupted" in err and "Traceback" not in err


@pytest.mark.parametrize("arguments", [("--help",), ("schema", "scenario"), ("plan", UPGRADE, "--strategy", "drain-expand")])
def test_a_closed_output_ends_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([sys.executable, "-m", "simdeploy", *arguments], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)

    assert (141, "") == (ended.returncode, ended.stderr)


@pytest.mark.parametrize("style", ["json", "table"])
def test_an_interrupt_while_inputs_are_varied_keeps_the_comparison(monkeypatch, style):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("simdeploy.study.robustness.vary_inputs", interrupted)

    said = invoke("compare", UPGRADE, "--replications", "20", "--robust", "--format", style)

    assert 130 == said.exit_code
    assert "interrupted; the comparison is whole, no input was varied" in said.stderr
    if style == "json":
        assert 20 == json.loads(said.stdout)["replications"] and "robustness" not in json.loads(said.stdout)
    else:
        assert "ecommended" in said.stdout


def test_every_fault_of_a_plan_is_reported_at_once(tmp_path):
    path = tmp_path / "plan.json"
    invoke("plan", UPGRADE, "--strategy", "drain-expand", "-o", str(path))
    plan = json.loads(path.read_text())
    first, second, third = plan["steps"][:3]
    first |= {"needs": ["nothing"], "on": "nowhere"}
    second["id"] = first["id"]
    third["begin"] = [["lead", "nobody", "nothing@nowhere"]]
    plan["crashes"] = [{"machine": "nobody1", "at_s": 5}]
    plan["prefer"] = ["speed"]
    path.write_text(json.dumps(plan))

    said = invoke("simulate", str(path))
    faults = [line for line in said.output.splitlines() if "which needs" not in line]

    wanted = ["two steps are called", "'nothing' under needs", "'nowhere', which is no machine", "'nobody', which is no service"]
    wanted += ["'nothing@nowhere', which is no instance", "'nobody1' is to crash", "'speed', which is no metric"]
    assert 2 == said.exit_code and all(line.startswith(f"{path}: ") for line in faults)
    assert all(1 == sum(w in line for line in faults) for w in wanted), said.output


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"begin": [[["lead"], "web"]]}, "is no effect"),
        ({"slow": [5]}, "steps[0].slow[0]: must be a list"),
        ({"duration": 10**400}, "must be finite"),
        ({"retries": 10**400}, "steps[0].retries: "),
        ({"id": 7}, "steps[0].id: 7 must be a text"),
        ({"kind": "stp"}, "steps[0].kind: 'stp' is not allowed; write 'step', 'gate' or 'judge'; did you mean 'step'?"),
        ({"neds": []}, "steps[0]: unknown key 'neds'; did you mean 'needs'?"),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_plan_is_named(tmp_path, step, says):
    path = tmp_path / "plan.json"
    invoke("plan", UPGRADE, "--strategy", "drain-expand", "-o", str(path))
    plan = json.loads(path.read_text())
    plan["steps"][0] |= step
    path.write_text(json.dumps(plan))

    said = invoke("simulate", str(path))

    assert 2 == said.exit_code and says in said.output and isinstance(said.exception, SystemExit)


def test_a_number_of_thousands_of_digits_is_no_plan(tmp_path):
    (tmp_path / "plan.json").write_text('{"format": ' + "1" * 5000 + "}")

    said = invoke("simulate", str(tmp_path / "plan.json"))

    assert 2 == said.exit_code and "is no JSON that can be read" in said.output


def test_help_starts_without_the_heavy_libraries():
    heavy = ("pydantic", "numpy", "pandas", "networkx", "matplotlib")
    code = f"import sys; from simdeploy.cli import main; print([m for m in {heavy} if m in sys.modules])"

    assert "[]" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_scenario_runs_in_another_environment():
    """One machine per tier: the recommended rolling upgrade is down for minutes there, and misses its goals."""
    arguments = ("simulate", UPGRADE, "--strategy", "drain-expand", "--replications", "100", "--format", "json")
    here, there = (invoke(*arguments, *more) for more in ((), ("--environment", "scenarios/canonical/onebox.yaml")))

    assert (0, 4) == (here.exit_code, there.exit_code)
    assert json.loads(there.stdout)["metrics"]["downtime_s"]["mean"] > 300
