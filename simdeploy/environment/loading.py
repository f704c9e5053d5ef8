"""YAML files to models, with every fault of a file at once, each at its line and column. The only door to yaml."""

from __future__ import annotations

import copy
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.scanner import Scanner, ScannerError

from simdeploy.environment.wording import wording
from simdeploy.errors import Fault, FileError, InvalidDocument, Path, Problem

MAX_BYTES = 2_000_000
MAX_NODES = 200_000
MAX_DEPTH = 40
MAX_DIGITS = 300
"""Of a whole number; a longer one is no number that anything here has."""
MARKS = ("assumed", "measured")

Place = tuple[str, int, int]
"""File, line and column, counted from 1."""
Model = TypeVar("Model", bound=BaseModel)


class _Scanner(Scanner):
    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        """Stop at once where brackets are too deep: the time that they take grows with the square of their depth."""
        if len(self.flow_context) > MAX_DEPTH:
            raise ScannerError(problem=f"it is nested deeper than {MAX_DEPTH} levels", problem_mark=self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class Document:
    """A YAML file as plain data, with the place of everything in it and the faults met so far."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self.inputs: dict[Path, tuple[str, str]] = {}
        """Where a number is marked -> (assumed or measured, its source)."""
        self.shown = shown(path)
        self._places: dict[Path, Place] = {(): (self.shown, 1, 1)}
        self._keys: dict[Path, Place] = {}
        self._made_from: dict[Path, list[int]] = {}
        """A list that was written out -> of each of its parts, the position in the file of what it was made from."""
        self._nodes = 0
        self.data = self._read()

    def fault(self, path: Path, message: str, at: Place | None = None) -> None:
        """Note a fault at the place *at*, else at *path* or the nearest part of it that the file has."""
        path = self._written(path)
        while path not in self._places:
            path = path[:-1]
        self.faults.append(Fault(*(at or self._places[path]), message))

    def lay_over(self, base: Document, whole: frozenset[str]) -> None:
        """Take from *base* what this document does not say: mappings are merged, except those under the keys *whole*."""
        self.faults = [*base.faults, *self.faults]
        replaced: set[Path] = set()
        self.data = _merged(base.data, self.data, whole, (), replaced)

        def stays(path: Path) -> bool:
            return not any(path[:n] in replaced for n in range(1, len(path) + 1))

        self.inputs = {path: mark for path, mark in base.inputs.items() if stays(path)} | self.inputs
        self._places = {path: place for path, place in base._places.items() if stays(path)} | self._places
        self._keys = {path: place for path, place in base._keys.items() if stays(path)} | self._keys

    def write_out(self, path: Path, parts: list[Any], made_from: list[int]) -> None:
        """Put *parts* for the list at *path*; faults of each are reported where the one stands that it was made from."""
        holder = self.data
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = parts
        self._made_from[path] = made_from

    def _written(self, path: Path) -> Path:
        """Where in the file stands what is now at *path*."""
        for n, part in enumerate(path):
            made_from = self._made_from.get(path[:n], [])
            if isinstance(part, int) and part < len(made_from):
                return (*path[:n], made_from[part], *path[n + 1 :])
        return path

    def _at(self, mark: Any) -> Place:
        return self.shown, mark.line + 1, mark.column + 1

    def _stop(self, line: int, column: int, message: str) -> FileError:
        return FileError([*self.faults, Fault(self.shown, line, column, message)])

    def _read(self) -> Any:
        try:
            with open(self.path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)  # a device has no end
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else error
            raise self._stop(1, 1, f"cannot be read ({reason}); name an existing YAML file") from None
        if len(raw) > MAX_BYTES:
            raise self._stop(1, 1, f"has too many bytes; a file has at most {MAX_BYTES}: use lists of names rather than repetition")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an anchor that is used twice is legal YAML 1.2
                yaml = YAML(typ="safe", pure=True)
                yaml.Scanner = _Scanner
                node = yaml.compose(raw.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise self._stop(line, 1, "is not UTF-8; save the file with that encoding") from None
        except RecursionError:
            raise self._stop(1, 1, f"is nested deeper than {MAX_DEPTH} levels") from None
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            text = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise self._stop(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, f"is no YAML: {text}") from None
        except (ValueError, AttributeError, TypeError) as error:  # the parser's own slips on hostile input
            raise self._stop(1, 1, f"is no YAML: {error}") from None
        if not isinstance(node, MappingNode):
            raise self._stop(1, 1, "holds no mapping at its top; write 'key: value' lines")
        return self._value(node, (), 0)

    def _value(self, node: Node, path: Path, depth: int) -> Any:
        mark = node.start_mark
        self._places.setdefault(path, self._at(mark))
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            rule = (
                f"deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"larger than {MAX_NODES} values once its aliases are followed"
            )
            raise self._stop(mark.line + 1, mark.column + 1, f"the document is {rule}; split or shorten it")
        if isinstance(node, SequenceNode):
            return [self._value(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> Any:
        result: dict[str, Any] = {}
        marks: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                place = key_node.start_mark
                self.faults.append(Fault(self.shown, place.line + 1, place.column + 1, "a key is a list or mapping; write a plain name"))
                continue
            key, place = str(key_node.value), key_node.start_mark
            if str(key_node.tag).endswith(":merge"):
                way_out = "write the keys out, or let an environment stand on another file with 'like'"
                raise self._stop(place.line + 1, place.column + 1, f"merge keys ('<<') are not read; {way_out}")
            if key in result or key in marks:
                message = f"duplicate key {key!r}; keep one of them"
                self.faults.append(Fault(self.shown, place.line + 1, place.column + 1, message))
                continue
            here = (*path, key)
            self._keys[here] = self._at(place)
            value = self._value(value_node, here, depth + 1)
            if isinstance(value_node, ScalarNode) and key not in MARKS:
                self._places[here] = self._at(value_node.start_mark)
            else:
                self._places[here] = self._keys[here]
            (marks if key in MARKS else result)[key] = value
        for mark, source in marks.items():
            if not isinstance(source, str) or not source.strip():
                self.fault((*path, mark), f"{mark!r} needs the source as text, for example '{mark}: load test of 2026-10-02'")
            self.inputs[path] = (mark, str(source))
        if marks and "value" in result and path:
            for extra in set(result) - {"value"}:
                self.fault(
                    (*path, extra), f"unknown key {extra!r} beside value and {next(iter(marks))}; put a text that has a comma in quotes"
                )
            return result["value"]
        return result

    def _scalar(self, node: Node, path: Path) -> Any:
        text, tag = str(node.value), str(node.tag).rsplit(":", 1)[-1]
        try:
            if tag == "int" and len(text) <= MAX_DIGITS:
                digits = text.replace("_", "")
                return int(digits, 10 if digits.lstrip("+-0").isdigit() else 0)
            if tag == "float":
                return float(text.replace("_", ""))
        except ValueError:
            return text
        if tag == "bool":
            return text.lower() in ("true", "yes", "on", "y")
        return None if tag == "null" else text

    def gather_inputs(self) -> None:
        """Put where the numbers come from, as the marks say it, into the data, under a key that no file has."""
        if "inputs" in self.data:
            self.fault(("inputs",), "unknown key 'inputs'; the inputs are gathered from the marks assumed: and measured: beside the values")
        self.data["inputs"] = [{"at": ".".join(map(str, at)), "mark": mark, "source": source} for at, (mark, source) in self.inputs.items()]

    def check(self, model: type[Model], without: str | None = None, instead: dict[str, Any] | None = None) -> Model | None:
        """This document as *model*, or None with the faults noted.

        *instead* has sound values for keys at the top, so that the rules of the rest can be checked when those are wrong.
        *without* names a key whose own file is at fault: it is left out, and not missed.
        """
        try:
            return model.model_validate(self.data, context={"units_required": True}, by_alias=True, by_name=False)
        except InvalidDocument as error:
            self._note(error.problems)
        except ValidationError as error:
            errors = [e for e in error.errors(include_url=False) if e["loc"] != (without,) and not _follows(e)]
            for item in errors:
                path = self._known(item["loc"])
                at = self._keys.get(self._written(path)) if item["type"] == "extra_forbidden" else None
                named = item["loc"] if item["type"] == "missing" or item["loc"][-1] == "[key]" else path
                self.fault(path, wording(item, named, model), at)
            if without is None:
                bare = [e["type"] == "unit" and isinstance(e["input"], int | float) for e in errors]  # a number that only lacks its unit
                self._check_the_rest(
                    model, [self._known(e["loc"]) for e, lacks_unit in zip(errors, bare, strict=True) if not lacks_unit], instead or {}
                )
        return None

    def _check_the_rest(self, model: type[Model], wrong: list[Path], instead: dict[str, Any]) -> None:
        """Look for rules that span fields although some values are wrong by themselves: with those left out.

        What cannot be without them is left out too, and *instead* stands for what the whole document cannot be without.
        What then is wrong right beside a value that was left out may come from that, and is not reported.
        """
        data = copy.deepcopy(self.data)
        beside = {path[:-1] or path for path in wrong}
        gone: set[Path] = set()
        while True:
            for path in sorted(wrong, key=lambda p: [(isinstance(x, int), x) for x in p], reverse=True):  # of a list the last one first
                _leave_out(data, path)
            data = instead | data
            try:
                model.model_validate(data, by_alias=True, by_name=False)
                return
            except InvalidDocument as error:
                self._note(p for p in error.problems if p.path not in beside and p.path[:-1] not in beside and not _is_a_part(data, p.path))
                return
            except ValidationError as error:  # what lacks a value that was left out; one level up with each round
                wrong = [self._known(e["loc"][:-1] if e["type"] == "missing" else e["loc"]) for e in error.errors(include_url=False)]
                if () in wrong or gone >= set(wrong):
                    return
                beside |= set(wrong)
                gone |= set(wrong)

    def _note(self, problems: Iterable[Problem]) -> None:
        """Note faults; of what was written out, those that only differ in names are one."""
        alike: dict[tuple[Path, str], list[Problem]] = {}
        for problem in problems:
            alike.setdefault((self._written(problem.path), re.sub(r"'[^']*'|\d+", "", problem.message)), []).append(problem)
        for (written, _), group in alike.items():
            made = any(written[:n] in self._made_from for n in range(len(written)))
            if made and any(p.path != group[0].path for p in group):
                self.fault(group[0].path, f"{group[0].message} (and so {len(group) - 1} more that this entry stands for)")
                continue
            for problem in group:
                self.fault(problem.path, problem.message)

    def _known(self, path: Path) -> Path:
        """*path* without the parts that pydantic adds for the branch of a union."""
        kept: Path = ()
        for part in path:
            if self._written((*kept, part)) in self._places:
                kept = (*kept, part)
        return kept


def _follows(error: Mapping[str, Any]) -> bool:
    """Whether another error says it: that of a list one part is wrong, or that a list is none of the words of a union."""
    if error["type"] == "too_short":
        return bool(error["input"])
    return error["type"] == "literal_error" and isinstance(error["input"], list) and str(error["loc"][-1]).startswith("literal[")


def _leave_out(data: Any, path: Path) -> None:
    try:
        for part in path[:-1]:
            data = data[part]
        del data[path[-1]]
    except (KeyError, IndexError, TypeError):
        pass  # gone already with what was around it


def _is_a_part(data: Any, path: Path) -> bool:
    """Whether *path* names something whole, such as a service: what is said of it may come from what was left out elsewhere."""
    return len(path) == 2 and isinstance(data[path[0]], dict) and isinstance(data[path[0]].get(path[1]), dict)


def _merged(base: Any, over: Any, whole: frozenset[str], path: Path, replaced: set[Path]) -> Any:
    """*over* laid over *base*; where it does not merge, the path goes to *replaced*."""
    if not isinstance(base, dict) or not isinstance(over, dict) or (path and path[-1] in whole):
        replaced.add(path)
        return over
    return base | {k: _merged(base[k], v, whole, (*path, k), replaced) if k in base else v for k, v in over.items()}


def shown(path: pathlib.Path) -> str:
    """*path* for a message: without detours such as `shop/../`, where it then still leads there."""
    short = os.path.normpath(path)
    try:
        return short if os.path.realpath(short) == os.path.realpath(path) else str(path)
    except ValueError:  # a NUL in the name
        return str(path)
