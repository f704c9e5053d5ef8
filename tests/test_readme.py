"""The README shows what its commands print."""

from __future__ import annotations

import pathlib
import re

import pytest
from click.testing import CliRunner

from simdeploy.cli import main

README = pathlib.Path("README.md")


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


def test_the_readme_names_its_two_commands_on_the_first_screen():
    first = "\n".join(README.read_text().splitlines()[:40])

    assert "make demo" in first and "make test" in first


def test_the_python_of_the_readme_uses_public_names_only():
    import simdeploy

    used = set(re.findall(r"simdeploy\.([a-zA-Z_]+)\(", README.read_text()))

    assert used and used <= set(simdeploy.__all__)
