"""The command line: each command parses, calls one function of the library, prints its text and returns an exit code.

The commands stand by what people do: forecasting, plans, files. Each imports what it needs when it runs, so that help is quick.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

import click

from simdeploy.cli import files, forecasting, plans
from simdeploy.cli.shared import BAD_INPUT, CLOSED, DIFFERS, EXIT_CODES, INTERRUPTED
from simdeploy.errors import MismatchError, SimdeployError

__all__ = ["EXIT_CODES", "main"]

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
    """Turns our errors into a message on stderr and an exit code."""

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with _quiet_when_closed():  # --help prints here
            return super().make_context(*arguments, **more)

    @_quiet_when_closed()
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SimdeployError as error:
            click.echo(f"simdeploy: {error}" if "\n" not in str(error) else str(error), err=True)
            ctx.exit(DIFFERS if isinstance(error, MismatchError) else BAD_INPUT)
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


for command in (*forecasting.COMMANDS, *plans.COMMANDS, *files.COMMANDS):
    main.add_command(command)
