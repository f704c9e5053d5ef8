"""A bar in a notebook while replications run; silent everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

AFTER_S = 2.0
"""What takes no longer shows nothing."""


def notebook_progress() -> Callable[[int, int], None] | None:
    """Something that shows (done, total) in the notebook that runs this, and vanishes at the end; None where no notebook does."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return _bar() if shell is not None and hasattr(shell, "kernel") else None


def _bar() -> Callable[[int, int], None]:
    from IPython.display import display

    began, shown = time.monotonic(), 0.0
    handle: Any = None

    def show(done: int, total: int) -> None:
        nonlocal handle, shown
        now = time.monotonic()
        if done >= total:
            if handle is not None:
                handle.update({"text/html": "", "text/plain": ""}, raw=True)
        elif now > began + AFTER_S and now > shown + 0.2:
            shown = now
            said = f"{done:,} of {total:,} replications"
            bar = {"text/html": f"<progress value='{done}' max='{total}'></progress> {said}", "text/plain": said}
            if handle is None:
                handle = display(bar, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            else:
                handle.update(bar, raw=True)

    return show
