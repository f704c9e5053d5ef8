"""A plan with what is known of it: the result of vetting it and its forecast, in three files that name one digest."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from simdeploy.errors import DiffersError, PlanError
from simdeploy.plan.findings import Vetting
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan
from simdeploy.simulation.forecasting import forecast
from simdeploy.vetting.vet import vet

T = TypeVar("T", Vetting, Forecast)


class Dossier(NamedTuple):
    """A plan and what is known of it; None where the file is not there."""

    plan: Plan
    vetting: Vetting | None
    forecast: Forecast | None


def dossier(plan: Plan, replications: int = 1000, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Dossier:
    """Vet *plan* and forecast it."""
    return Dossier(plan, vet(plan), forecast(plan, replications, seed, progress=progress))


def write_plan(plan: Plan, path: str | pathlib.Path, replications: int = 1000, seed: int = 0) -> list[pathlib.Path]:
    """Vet *plan*, forecast it, and write all three to *path* and beside it, as 'simdeploy plan -o'; the files. Raises PlanError."""
    return write_dossier(dossier(plan, replications, seed), pathlib.Path(path))


def write_dossier(known: Dossier, path: pathlib.Path) -> list[pathlib.Path]:
    """Write the plan to *path* and what is known of it beside it; the files. Raises PlanError where that cannot be done."""
    files = [(path, known.plan)]
    written = []
    for file, content in [
        *files,
        *((beside(path, kind), part) for kind, part in (("vetting", known.vetting), ("forecast", known.forecast))),
    ]:
        if content is None:
            continue
        try:
            file.write_text(content.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise PlanError(f"the plan cannot be written to {str(file)!r} ({error.strerror}); name a file that you may write") from None
        written.append(file)
    return written


def read_dossier(path: pathlib.Path) -> Dossier:
    """The plan in *path*, and what lies beside it.

    Raises PlanError for what cannot be read, and DiffersError where what lies beside it is of another plan.
    """
    try:
        plan = Plan.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}); name a file written by 'simdeploy plan'") from None
    except (PlanError, DiffersError, UnicodeDecodeError) as error:
        kind = DiffersError if isinstance(error, DiffersError) else PlanError
        raise kind("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return Dossier(plan, _beside(plan, path, "vetting", Vetting.from_json), _beside(plan, path, "forecast", Forecast.from_json))


def beside(path: pathlib.Path, kind: str) -> pathlib.Path:
    """Where the *kind* (vetting or forecast) of the plan in *path* lies."""
    return path.with_name(f"{path.stem}.{kind}.json")


def _beside(plan: Plan, path: pathlib.Path, kind: str, read: Callable[[str], T]) -> T | None:
    file = beside(path, kind)
    if not file.exists():
        return None
    try:
        found = read(file.read_text(encoding="utf-8"))
    except (PlanError, OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{file}: {error}") from None
    if found.plan_sha256 != plan.digest:
        raise DiffersError(
            f"{file}: is of the plan {found.plan_sha256[:12]}, and {path} is {plan.digest[:12]}; "
            f"write both anew with 'simdeploy plan -o {path.name}', or remove {file.name}"
        )
    return found
