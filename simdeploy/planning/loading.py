"""Files to scenarios: a scenario names its environment's file, and the faults of both are reported together."""

from __future__ import annotations

import pathlib

from simdeploy.environment.files import load_environment
from simdeploy.environment.loading import Document
from simdeploy.environment.models import Environment
from simdeploy.environment.names import did_you_mean
from simdeploy.errors import FileError
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import KINDS


def load(path: str | pathlib.Path) -> Scenario | Environment:
    """The scenario or the environment that the YAML file at *path* describes.

    Raises FileError with every fault found, each with its file, line and column.
    """
    document = Document(pathlib.Path(path))
    return _scenario(document) if "scenario" in document.data or "strategies" in document.data else load_environment(path)


def load_scenario(path: str | pathlib.Path, environment: str | pathlib.Path | None = None) -> Scenario:
    """The scenario that the YAML file at *path* describes, with its environment or the one that *environment* names.

    Raises FileError.
    """
    return _scenario(Document(pathlib.Path(path)), environment)


def _scenario(document: Document, instead: str | pathlib.Path | None = None) -> Scenario:
    data = document.data
    data.setdefault("name", document.path.stem)
    document.gather_inputs()
    model = _model(document)
    named = data.get("environment")
    if not isinstance(named, str):
        document.fault(
            ("environment",), "the key 'environment' must name the environment's YAML file, for example 'environment: production.yaml'"
        )
        raise FileError(document.faults)
    try:
        data["environment"] = load_environment(document.path.parent / named if instead is None else instead)
    except FileError as error:
        if instead is None and error.faults[0].message.startswith("cannot be read"):
            document.fault(("environment",), f"environment {named!r} {error.faults[0].message}")
        else:
            document.faults += error.faults
            del data["environment"]
            document.check(model, without="environment")
        raise FileError(document.faults) from None
    scenario = document.check(model)
    if scenario is None or document.faults:
        raise FileError(document.faults)
    return scenario


def _model(document: Document) -> type[Scenario]:
    """The model of the kind of scenario that *document* names; raises FileError where it names none."""
    kind = document.data.get("scenario")
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind].model
    if kind is None:
        document.fault((), f"the key 'scenario' is missing; write one of {', '.join(KINDS)}")
    else:
        document.fault(("scenario",), f"{kind!r:.60} is no kind of scenario; {did_you_mean(str(kind), list(KINDS))}")
    raise FileError(document.faults)
