"""The command line: each command parses, calls one function of the library, prints its text and returns an exit code."""

from simdeploy.cli import ahead, explaining, files, forecasts, plans, reporting, running
from simdeploy.cli.program import EXIT_CODES, main

__all__ = ["EXIT_CODES", "ahead", "explaining", "files", "forecasts", "main", "plans", "reporting", "running"]
