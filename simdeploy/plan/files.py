"""A plan's file, and the two that lie beside it: what was forecast and what was vetted, each of exactly this plan."""

from __future__ import annotations

import pathlib
from typing import NamedTuple, TypeVar

from simdeploy.errors import MismatchError, PlanError
from simdeploy.plan.findings import Vetting
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan

Beside = TypeVar("Beside", Forecast, Vetting)
ENDINGS: dict[type, str] = {Forecast: "forecast", Vetting: "vetting"}


class PlanFile(NamedTuple):
    """A plan with what lies beside it; None = nothing does."""

    plan: Plan
    forecast: Forecast | None = None
    vetting: Vetting | None = None


def beside(path: pathlib.Path, kind: type) -> pathlib.Path:
    """Where the Forecast or the Vetting of the plan in *path* lies: plan.forecast.json beside plan.json."""
    return path.with_name(f"{path.stem}.{ENDINGS[kind]}.json")


def read_plan_file(path: pathlib.Path) -> PlanFile:
    """The plan in *path* with its forecast and vetting.

    Raises PlanError for what is none, and MismatchError where the plan was changed after it was written, or where one of
    the two is of another plan.
    """
    plan = read_plan(path)
    return PlanFile(plan, _read_beside(path, plan, Forecast), _read_beside(path, plan, Vetting))


def read_plan(path: pathlib.Path) -> Plan:
    """The plan in *path*, whatever lies beside it. Raises like `read_plan_file`, each line with the file's name."""
    try:
        return Plan.from_json(_text(path))
    except (PlanError, MismatchError) as error:
        raise type(error)("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def write_plan_file(path: pathlib.Path, content: PlanFile) -> list[pathlib.Path]:
    """Write a plan and what there is to lie beside it; returns the files written. Raises PlanError where one cannot be."""
    texts = {path: content.plan.to_json()}
    texts |= {beside(path, type(value)): value.to_json() for value in (content.forecast, content.vetting) if value is not None}
    for file, text in texts.items():
        try:
            file.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise PlanError(f"the plan cannot be written to {str(file)!r} ({error.strerror}); name a file that you may write") from None
    return list(texts)


def _read_beside(path: pathlib.Path, plan: Plan, kind: type[Beside]) -> Beside | None:
    file = beside(path, kind)
    if not file.exists():
        return None
    try:
        value: Beside = kind.from_json(_text(file))
    except PlanError as error:
        raise PlanError(f"{file}: {error}") from None
    if value.plan_sha256 != plan.digest:
        raise MismatchError(
            f"{file}: is of another plan: it names sha256 {value.plan_sha256!r:.80}, and {path.name} has {plan.digest!r}; "
            f"write all anew with 'simdeploy plan {path} -o {path}', or remove {file.name}"
        )
    return value


def _text(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot be read ({error.strerror}); name a file written by 'simdeploy plan'") from None
    except UnicodeDecodeError as error:
        raise PlanError(f"{error}; name a file written by 'simdeploy plan'") from None
