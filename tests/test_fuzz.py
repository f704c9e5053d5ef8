"""The shipped files, spoilt in thousands of ways: each loads, or every fault has a place; never anything else, and never slowly."""

# ruff: noqa: E501 (lists of oddities read better in wide rows)
from __future__ import annotations

import json
import pathlib
import random
import re
import time

import pytest
from click.testing import CliRunner

from simdeploy.cli import main
from simdeploy.errors import FileError, PlanError
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan, build_plans
from simdeploy.planning.loading import load
from simdeploy.planning.scenario import Upgrade

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = [p for p in (*sorted((ROOT / "scenarios").iterdir()), ROOT / "simdeploy" / "templates") if p.is_dir()]
FILES = [p for folder in FOLDERS for p in sorted(folder.glob("*.yaml"))]
SCENARIOS = [p for p in FILES if re.search("^scenario:", p.read_text(encoding="utf-8"), re.MULTILINE)]
LONGEST_S = 5.0
"""That one file may take on a busy machine; each takes some hundredths of a second."""

VALUES = [
    "5", "-5", "-5 s", "0", "0 s", ".inf", "-.inf", ".nan", "inf", "nan", "1e400", "1e400 s", "-1e400 req/s", "1e-400 s", "9" * 400, "9" * 400 + " s",
    "0x" + "f" * 999, "5 furlongs", "5 req/s", "5 GB", "120 %", "-1 %", "101", "true", "no", "null", "~", "", '""', "' '", "[]", "{}", "[[]]", "{a: b}", "[1, two, {}]",
    "2026-10-02", "22:30", "99:99", "1:2:3", "0o17", "1_000", "+5 s", "٣ s", "名前", "é", "💥", '"\\0"', '"\\x07"', '"\\ud800"', '"\\U0010ffff"', "\x00", "\x1b[31m", "\u2028",
    "&a [*a]", "*nobody", "&a x", "!!binary aGVsbG8=", "!!int x", "!!float x", "!!python/name:os.system", "!custom {a: b}", "!!set {a, b}", "!!omap [a: b]",
    "\t5 s", "|\n  text", ">-\n  text", "[" * 60 + "]" * 60, "{a: " * 60 + "}" * 60, "[" * 3000 + "]" * 3000, "{value: 5 s, assumed: x}",
    "{value: 5}", "{assumed: x}", "{value: {value: 5 s, assumed: x}, measured: y}", "{uniform: [5 s, 1 s]}", "{pert: [1 s]}", "{lognormal: {median: 5 s, p95: 1 s}}",
    "{empirical: []}", "{gamma: [0 s, 0 s]}", "{weibull: [1 s, 0]}", "{exponential: 1e308 s}", "w*", "[w*, '*']", "{n}", "../../../etc/passwd", "/", ".", "x" * 5000,
    "p95(downtime_s) <= 30 s", "[1, 50 %, 100 %]", "0 %", "[0]", "-1", "1.5", "[[web], [web]]", "lost", "leader_elected", "datastore", "monitoring", "quorum",
]  # fmt: skip
LINES = [
    "like: environment.yaml", "like: production.yaml", "like: [a]", "inputs: [{at: x, mark: assumed, source: y}]", "<<: {a: b}", "<<: *a", "? [a]\n: b", "? {a: b}\n: c", "---", "...",
    "%YAML 1.1", "%TAG ! x", "\t", "- x", ": :", "}{", "#", "value: 5", "assumed: x", "measured:", "count: 3", "services:", "5: 5", "? ", "null: 1", "true: false",
    "bomb: {a: &a [x, x, x, x, x, x, x, x, x], b: &b [*a, *a, *a, *a, *a, *a, *a, *a], c: &c [*b, *b, *b, *b, *b, *b], d: &d [*c, *c, *c, *c, *c, *c, *c, *c], e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]}",
]  # fmt: skip
PAIR = re.compile(r"([\w.-]+|\"[^\"]*\")(: *)([^,{}\[\]#\n]+|\[[^\]\n]*\]|\{[^{}\n]*\})")
"""A key and its value on one line."""


def pairs(text: str) -> list[re.Match[str]]:
    return list(PAIR.finditer(text))


def spoilt(luck: random.Random, text: str, other: str) -> str | bytes:
    """*text* with one to three things done to it that people, editors and attackers do; *other* lends its parts."""
    for _ in range(luck.choice([1, 1, 1, 2, 3])):
        change = luck.choice([lines, renamed, other_value, other_value, other_value, swapped, indented, characters])
        text = change(luck, text, other)
    if luck.random() < 0.15:
        raw = bytearray(text.encode("utf-8", "replace"))
        for _ in range(luck.randint(1, 8)):
            if raw:
                raw[luck.randrange(len(raw))] = luck.randrange(256)
        return bytes(raw)
    return text


def lines(luck: random.Random, text: str, other: str) -> str:
    rows = text.splitlines(keepends=True) or [""]
    i, j = luck.randrange(len(rows)), luck.randrange(len(rows))
    change = luck.choice(["delete", "double", "move", "insert", "truncate", "borrow"])
    if change == "delete":
        del rows[i : i + luck.randint(1, 5)]
    elif change == "double":
        rows[j:j] = rows[i : i + luck.randint(1, 8)]
    elif change == "move":
        rows.insert(j, rows.pop(i))
    elif change == "insert":
        rows.insert(i, " " * luck.choice([0, 0, 2, 4, 6]) + luck.choice(LINES) + "\n")
    elif change == "truncate":
        del rows[i:]
    else:
        theirs = other.splitlines(keepends=True) or [""]
        k = luck.randrange(len(theirs))
        rows[i : i + luck.randint(0, 5)] = theirs[k : k + luck.randint(1, 12)]
    return "".join(rows)


def renamed(luck: random.Random, text: str, other: str) -> str:
    found = pairs(text)
    if not found:
        return text
    key = luck.choice(found)
    name = luck.choice(
        [key[1][:-1], key[1] + "x", key[1].upper(), '""', luck.choice(found)[1], "値", "a.b.c", "-", "*", "5", "value", "assumed", "null"]
    )
    return text[: key.start(1)] + name + text[key.end(1) :]


def other_value(luck: random.Random, text: str, other: str) -> str:
    found = pairs(text)
    if not found:
        return text
    value = luck.choice(found)
    new = luck.choice(VALUES) if luck.random() < 0.8 else luck.choice(pairs(other) or found)[3]
    return text[: value.start(3)] + new + text[value.end(3) :]


def swapped(luck: random.Random, text: str, other: str) -> str:
    found = pairs(text)
    if len(found) < 2:
        return text
    one, two = sorted(luck.sample(found, 2), key=lambda m: m.start())
    return text[: one.start(3)] + two[3] + text[one.end(3) : two.start(3)] + one[3] + text[two.end(3) :]


def indented(luck: random.Random, text: str, other: str) -> str:
    rows = text.splitlines(keepends=True) or [""]
    i = luck.randrange(len(rows))
    rows[i] = luck.choice(["  ", " ", "\t", "        "]) + rows[i] if luck.random() < 0.5 else rows[i].lstrip()
    return "".join(rows)


def characters(luck: random.Random, text: str, other: str) -> str:
    i = luck.randrange(len(text) + 1)
    return text[:i] + luck.choice(list("{}[]:,&*!|>#%@\"'\t-9~\n\0é?\x1b\u0085\ufeff\r")) + text[i + luck.randint(0, 2) :]


def spoilt_file(number: int, folder: pathlib.Path) -> pathlib.Path:
    """The file of this *number*, beside the others of its folder; all from one seed each."""
    luck = random.Random(number)
    original = FILES[number % len(FILES)]
    for path in original.parent.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    text = spoilt(luck, original.read_text(encoding="utf-8"), luck.choice(FILES).read_text(encoding="utf-8"))
    (folder / original.name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    scenarios = [p for p in SCENARIOS if p.parent == original.parent] or [original]
    return folder / (luck.choice(scenarios).name if luck.random() < 0.4 else original.name)


def survives(path: pathlib.Path) -> bool:
    """Whether the file loads and its plans are built; else each of its faults has a place."""
    began = time.perf_counter()
    try:
        loaded = load(path)
        if isinstance(loaded, Scenario):
            loaded.warnings()
            build_plans(loaded)
        sound = True
    except FileError as error:
        sound = False
        assert error.faults
        assert all(re.match(r".+:[1-9]\d*:[1-9]\d*: \S", line) for line in str(error).splitlines()), str(error)
    assert time.perf_counter() - began < LONGEST_S
    return sound


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_a_spoilt_file_loads_or_says_where_and_why(tmp_path, first):
    for number in range(first, first + 25):
        survives(spoilt_file(number, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 2100, 250))
def test_thousands_of_spoilt_files_load_or_say_where_and_why(tmp_path, first):
    sound = [survives(spoilt_file(number, tmp_path)) for number in range(first, first + 250)]

    assert 0.02 < sum(sound) / len(sound) < 0.7  # most are spoilt, and not all at their first line


def test_the_command_line_refuses_spoilt_files_with_exit_code_2(tmp_path):
    """Some of those that do not load, through the door that people use."""
    refused = 0
    for number in range(100, 140):
        path = spoilt_file(number, tmp_path)
        said = CliRunner().invoke(main, ["check", str(path)])
        if not survives(path):
            refused += 1
            assert 2 == said.exit_code and re.match(r".+:\d+:\d+: \S", said.stderr), said.output
        else:
            assert said.exit_code in (0, 2) and "Traceback" not in said.output
        assert said.exception is None or isinstance(said.exception, SystemExit)

    assert 20 < refused


JSON_VALUES = [
    None, True, -1, 0, 1.5, 1e308, -1e308, 10**400, float("nan"), float("inf"), "", "x", "nothing@nowhere", "5 s", [], [[]], [None], [["lead"]], [["lead", []]],
    [["out", {}]], [[]], [[None, None]], [[["lead"], "web"]], {}, {"": None}, {"a": {"b": []}}, {"kind": "fixed"}, [1, 2, 3], "\0", "\ud800", "x" * 5000,
]  # fmt: skip


def places(value: object) -> list[tuple[list | dict, int | str]]:
    """Every place of a JSON document: what holds it, and its key or position there."""
    found: list[tuple[list | dict, int | str]] = []
    parts = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, part in parts:
        found += [(value, key), *places(part)]
    return found


def spoilt_plan(number: int, text: str) -> str:
    luck = random.Random(number)
    plan = json.loads(text)
    for _ in range(luck.choice([1, 1, 2, 4])):
        everywhere = places(plan)
        if not everywhere:
            break
        (holder, key), (other, theirs) = luck.choice(everywhere), luck.choice(everywhere)
        change = luck.choice(["value", "value", "delete", "swap", "rename", "double"])
        if change == "value":
            holder[key] = luck.choice(JSON_VALUES)
        elif change == "delete":
            del holder[key]
        elif change == "swap":
            holder[key] = json.loads(json.dumps(other[theirs]))
        elif change == "rename" and isinstance(holder, dict):
            holder[luck.choice(["x", str(theirs), str(key) + "_s", "duration", "value"])] = holder.pop(key)
        elif isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
    text = json.dumps(plan)
    if luck.random() < 0.2:
        i = luck.randrange(len(text))
        text = (
            text[:i]
            + luck.choice(["", "[" * 5000, "{", "]", '"', ",", "NaN", "9" * 5000, "\0", "é", '"a":'])
            + text[i + luck.randint(0, 30) :]
        )
    return text


def plan_survives(text: str) -> None:
    began = time.perf_counter()
    try:
        Plan.from_json(text)
    except PlanError as error:
        assert str(error).strip()
    assert time.perf_counter() - began < LONGEST_S


def shipped_plans() -> list[str]:
    upgrade, lab = (load(ROOT / "scenarios" / name / "upgrade.yaml") for name in ("canonical", "lab"))
    assert isinstance(upgrade, Upgrade) and isinstance(lab, Upgrade)
    plans = (build_plan(upgrade, "drain-expand"), build_plan(lab, next(iter(lab.strategies))))
    return [
        json.dumps(plan.model_dump(mode="json", exclude_defaults=True), indent=1) for plan in plans
    ]  # without `sha256`: else every spoilt one is refused for that


def test_a_spoilt_plan_is_a_plan_or_says_why():
    plans = shipped_plans()
    for number in range(60):
        plan_survives(spoilt_plan(number, plans[number % 2]))


@pytest.mark.slow
def test_hundreds_of_spoilt_plans_are_plans_or_say_why():
    plans = shipped_plans()
    for number in range(60, 1000):
        plan_survives(spoilt_plan(number, plans[number % 2]))


def test_the_command_line_forecasts_a_spoilt_plan_or_refuses_it(tmp_path):
    path, plans = tmp_path / "plan.json", shipped_plans()
    for number in range(1000, 1030):
        path.write_bytes(spoilt_plan(number, plans[number % 2]).encode("utf-8", "surrogatepass"))
        said = CliRunner().invoke(main, ["simulate", str(path), "--replications", "2", "--jobs", "1"])

        assert said.exit_code in (0, 2, 4) and isinstance(said.exception, SystemExit | None), (number, said.exception)
        assert 2 != said.exit_code or str(path) in said.stderr
