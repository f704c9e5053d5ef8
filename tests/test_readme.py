"""The README shows what its commands print."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner

from simdeploy.cli import main

README = pathlib.Path("README.md")
README_TEXT = README.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_output_in_the_readme_is_what_its_command_prints():
    shown = re.findall(r"<!-- output: (.+?) -->\n```text\n(.*?)```", README.read_text(), re.DOTALL)

    assert shown
    for command, text in shown:
        printed = CliRunner().invoke(main, command.split()).stdout.strip()
        if text.startswith("...\n"):  # only its end is shown
            assert printed.endswith(f"\n\n{text.removeprefix('...').strip()}")
        else:
            assert text.strip() == printed


def test_the_piece_of_a_runbook_is_one_of_the_report():
    """The report is checked against the scenario by its own test."""
    [(report, text)] = re.findall(r"<!-- excerpt: (.+?) -->\n````markdown\n(.*?)````", README_TEXT, re.DOTALL)

    assert text in pathlib.Path(report).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_local_upgrade_prints_what_the_readme_shows_of_it(tmp_path):
    """Line by line and in this order, with other numbers."""
    [text] = re.findall(r"<!-- shape: make local -->\n```text\n(.*?)```", README_TEXT, re.DOTALL)
    on_path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "scenarios/local/upgrade.sh"],
        env=os.environ | {"PATH": on_path, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    printed = iter(map(shape, ran.stdout.splitlines()))

    assert ran.returncode == 0, ran.stdout
    for line in text.splitlines():
        assert shape(line) in printed, (line, ran.stdout)


def shape(line: str) -> str:
    """A line without its numbers and the width of its columns."""
    return re.sub(r"[ ─]+", " ", re.sub(r"\b[0-9a-f]{12}\b|(?<=[ (])\d[\d.,]*", "N", line)).strip()


def test_the_readme_names_its_two_commands_on_the_first_screen():
    first = "\n".join(README.read_text().splitlines()[:40])

    assert "make demo" in first and "make test" in first


def test_the_way_from_init_to_a_printed_plan_is_as_the_readme_says(tmp_path, monkeypatch):
    """Every command of the section, in an empty folder; none asks for more than the ones before it have made."""
    monkeypatch.chdir(tmp_path)
    block = README_TEXT.split("<!-- runs: in an empty folder -->")[1].split("```")[1]
    commands = [shlex.split(line.partition("#")[0]) for line in block.splitlines()[1:] if line.strip()]
    for words in commands:
        ended = CliRunner().invoke(main, words[1:])
        assert ended.exit_code == 0, (words, ended.output)
        assert ended.stdout or words[1] in ("export", "report", "plan")

    assert len(commands) == 9 and all((tmp_path / made).stat().st_size > 1500 for made in ("plan.json", "runbook.html", "upgrade.html"))


def test_the_python_of_the_readme_uses_public_names_only():
    import simdeploy

    used = set(re.findall(r"simdeploy\.([a-zA-Z_]+)\(", README.read_text()))

    assert used and used <= set(simdeploy.__all__)
