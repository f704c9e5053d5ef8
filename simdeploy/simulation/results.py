"""Results that outlive a session: outcomes in a file with where they come from, read back bit for bit."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import pathlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from simdeploy.errors import PlanError
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.simulation.outcome import Floats, Outcome, Path

FORMAT = 1
OTHER_FORMS = (".parquet", ".csv", ".feather", ".pickle", ".pkl", ".xlsx")


class Results(NamedTuple):
    """What a file of results holds."""

    outcomes: dict[str, Outcome]
    """Strategy -> its outcome, without the times of its steps."""
    tool: str
    """The version of simdeploy that wrote it."""
    written_at: str
    """When, in UTC."""


def save_results(outcomes: Mapping[str, Outcome] | Outcome, path: str | pathlib.Path) -> pathlib.Path:
    """Write *outcomes* (those of a comparison: `comparison.outcomes`; or one, under its strategy's name) to *path* as JSON; the path.

    Each has its plan with its digest, its seed, and every value of every replication as the bytes of its float64, so that nothing is
    rounded and what has no number (nan, inf) survives. Raises PlanError for what is no outcome, and
    where the file cannot be written or its name promises another form.
    """
    if isinstance(outcomes, Outcome):
        outcomes = {outcomes.plan.source.strategy or "plan": outcomes}
    if not isinstance(outcomes, Mapping):
        raise PlanError(f"a {type(outcomes).__name__} is no Outcome and no mapping of them; of a comparison save its .outcomes")
    file = pathlib.Path(path)
    if file.suffix in OTHER_FORMS:
        raise PlanError(f"{file}: results are written as JSON; name a file that ends in .json, not {file.suffix}")
    content = {
        "format": FORMAT,
        "tool": version("simdeploy"),
        "written_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "outcomes": {name: _packed(outcome) for name, outcome in outcomes.items()},
    }
    content["sha256"] = _digest(content)
    try:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{file}: the results cannot be written ({error.strerror}); name a file that you may write") from None
    return file


def load_results(path: str | pathlib.Path) -> Results:
    """The results that `save_results` wrote to *path*. Raises PlanError for anything else, or where it was changed since."""
    file = pathlib.Path(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        stamped = content.pop("sha256")
        if stamped != _digest(content):
            raise PlanError(f"{file}: was changed after it was written; write the results anew")
        if content["format"] != FORMAT:
            raise PlanError(f"{file}: has format {content['format']!r}, and this simdeploy reads {FORMAT}; use the one that wrote it")
        outcomes = {name: _unpacked(packed) for name, packed in content["outcomes"].items()}
    except OSError as error:
        raise PlanError(f"{file}: cannot be read ({error.strerror}); name a file that save_results wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"{file}: is no file of results ({type(error).__name__}); name one that save_results wrote") from None
    return Results(outcomes, content["tool"], content["written_at"])


def _packed(outcome: Outcome) -> dict[str, Any]:
    return {
        "plan": json.loads(outcome.plan.to_json()),
        "seed": outcome.seed,
        "interrupted": outcome.interrupted,
        "values": {name: _text(values) for name, values in outcome.values.items()},
        "paths": [[_text(part) for part in path] for path in outcome.paths],
    }


def _unpacked(packed: dict[str, Any]) -> Outcome:
    values = {name: _floats(packed["values"][name]) for name in METRICS}
    paths = [Path(*map(_floats, path)) for path in packed["paths"]]
    return Outcome(Plan.from_json(json.dumps(packed["plan"])), packed["seed"], values, paths, packed["interrupted"])


def _text(values: Floats) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f8").tobytes()).decode("ascii")


def _floats(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f8").astype(np.float64)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
