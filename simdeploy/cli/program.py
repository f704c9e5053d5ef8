"""The program: its exit codes, and how it ends when something is wrong."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

import click

from simdeploy.errors import DiffersError, JournalError, LockedError, SimdeployError

FINE, BAD_INPUT, DIFFERS, MISSED, INTERRUPTED, CLOSED = 0, 2, 3, 4, 130, 141
HALTED, UNKNOWN, LOCKED, ROLLED_BACK, DECLINED, UNWRITTEN = 5, 6, 7, 8, 9, 74
EXIT_CODES = {
    FINE: "done, or fine",
    1: "internal error",
    BAD_INPUT: "bad input or usage",
    DIFFERS: "plan, environment or hosts differ from what was vetted",
    MISSED: "a goal is missed, or there are findings",
    HALTED: "a step failed and the plan halted",
    UNKNOWN: "an outcome is unknown",
    LOCKED: "locked by someone else",
    ROLLED_BACK: "rolled back",
    DECLINED: "paused, or the operator declined",
    UNWRITTEN: "the journal cannot be written",
    INTERRUPTED: "interrupted",
    CLOSED: "the reader of the output went away",
}
CODES: dict[type[SimdeployError], int] = {DiffersError: DIFFERS, LockedError: LOCKED, JournalError: UNWRITTEN}
"""What our errors end with; all others are bad input."""
EPILOG = "\b\nExit codes (one table for the whole program):\n" + "\n".join(
    f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()
)


@contextlib.contextmanager
def _quiet_when_closed() -> Iterator[None]:
    """End without a word where the reader of our output has gone, as in `simdeploy ... | head -1`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        os._exit(CLOSED)  # the interpreter would try to write the rest once more


class _Program(click.Group):
    """Turns our errors into a message on stderr and exit code 2."""

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with _quiet_when_closed():  # --help prints here
            return super().make_context(*arguments, **more)

    @_quiet_when_closed()
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SimdeployError as error:
            click.echo(f"simdeploy: {error}" if "\n" not in str(error) else str(error), err=True)
            ctx.exit(next((code for kind, code in CODES.items() if isinstance(error, kind)), BAD_INPUT))
        except OSError as error:  # what the library reads and writes it reports itself: this is our own output
            if error.errno == errno.EPIPE:
                raise
            with contextlib.suppress(OSError):
                click.echo(f"simdeploy: the output cannot be written ({error.strerror}); make room or write elsewhere", err=True)
            os._exit(1)  # the interpreter would try to write the rest once more
        except KeyboardInterrupt:
            click.echo("simdeploy: interrupted before the first replications were done", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Program, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="simdeploy")
def main() -> None:
    """Forecast deployments before anything is touched.

    Start with: simdeploy init
    """
