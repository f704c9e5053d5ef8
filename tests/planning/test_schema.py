"""The schemas that editors read: they take every file that the loader takes, and no file with a slip in one place."""

from __future__ import annotations

import json
import pathlib
import re

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from simdeploy.environment.durations import FAMILIES
from simdeploy.environment.loading import MARKS
from simdeploy.errors import FileError
from simdeploy.planning.loading import load
from simdeploy.planning.schema import FILES, json_schema
from simdeploy.planning.starter import TEMPLATES

SCHEMAS = {file: json_schema(file) for file in FILES}
SHIPPED = sorted(pathlib.Path("scenarios").rglob("*.yaml")) + sorted(TEMPLATES.glob("*.yaml"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.yaml")}


def plain(text):
    return YAML(typ="safe").load(text)


def fits(document):
    return Draft202012Validator(SCHEMAS["scenario" if "scenario" in document else "environment"]).is_valid(document)


@pytest.mark.parametrize("file", FILES)
def test_each_schema_is_one(file):
    Draft202012Validator.check_schema(SCHEMAS[file])

    assert "https://json-schema.org/draft/2020-12/schema" == SCHEMAS[file]["$schema"]
    refs = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(SCHEMAS[file])))
    assert refs <= set(SCHEMAS[file]["$defs"])


@pytest.mark.parametrize("file", FILES)
def test_every_field_is_described_in_words_of_the_file(file):
    for model in (SCHEMAS[file], *SCHEMAS[file]["$defs"].values()):
        for key, field in model.get("properties", {}).items():
            assert key in MARKS or field["description"], key
            assert not re.search(r"\bNone\b", field.get("description", "")), key
            if "default" in field:
                assert Draft202012Validator({**field, "$defs": SCHEMAS[file]["$defs"]}).is_valid(field["default"]), key


@pytest.mark.parametrize("file", FILES)
def test_every_example_fits_its_own_place(file):
    def check(part):
        if isinstance(part, dict):
            for example in part.get("examples", ()) if isinstance(part.get("examples"), list) else ():
                assert Draft202012Validator({**part, "$defs": SCHEMAS[file]["$defs"]}).is_valid(example), part
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            check(inner)

    check(SCHEMAS[file])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_file_fits(path):
    assert fits(plain(path))


def marked(value):
    """*value* with a mark beside the keys of every mapping in it, and one around every value that has none."""
    if isinstance(value, list):
        return [around(part) for part in value]
    if isinstance(value, dict):
        return {key: part if key in MARKS else around(part) for key, part in value.items()} | {"measured": "beside"}
    return value


def around(value):
    has_one = isinstance(value, dict) and "value" in value and set(value) & set(MARKS)
    return value if has_one else {"value": marked(value), "assumed": "around"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_mark_fits_at_every_place_where_the_loader_takes_one(path, tmp_path):
    document = marked(plain(path))
    document["name"] = "same"
    for key in {"environment", "like"} & set(document):
        document[key]["value"] = str((path.parent / document[key]["value"]).resolve())
    YAML(typ="safe").dump(document, tmp_path / "marked.yaml")

    again = load(tmp_path / "marked.yaml")

    assert fits(document)
    ignored = {"name", "inputs"}
    assert load(path).model_dump(exclude=ignored) == again.model_dump(exclude=ignored)


FAMILY_FORMS = [
    {kind: form}
    for kind, family in FAMILIES.items()
    for values in [[1.5 if name == "shape" else f"{i} s" for i, name in enumerate(family.fields, 1)]]
    for form in [values, dict(zip(family.fields, values, strict=True)) if family.fields != ("*",) else values[0]]
]
FORMS = {
    "environment.yaml": {
        "  rate: {value: 130 req/s, assumed: a busy evening}": [
            "  steps: [{at: 0 s, rate: 9 req/s}, {at: 1.5h, rate: .5e2 req/min}]",
            "  daily: [{at: '8:30', rate: 9 req/s}]",
            "  rate: 130req/s\n  excess: queue\n  patience: 30 s",
        ],
        "entry: web": [
            "entry: web\nmixing: errors",
            "entry: web\nreroute: true\ncells: {a: {on: ['web1*', mid1], share: 0.4}, b: {on: [web2, mid2], share: 60 %}}",
        ],
        "{middle: 1.5}": ["{middle: {}}", "{middle: {times: 2, dependency: soft}}", "{middle: {value: 2, measured: logs}}"],
        "30 s": ["+1E1 ms", "{exponential: 60 s}", "{lognormal: {mean: 40 s, p95: 90 s}}", *map(json.dumps, FAMILY_FORMS)],
        "{duration: 10 s}": ["{duration: 10 s, p_fail: 0.1}", "{duration: 10 s, p_fail: 10%}", "{duration: 10 s, on: null}"],
        "role: datastore": [
            "role: datastore, version: 14",
            "role: datastore, store: {copies: [{kind: backup, every: 1 d, takes: 1 h}, {kind: log_archive, ships_in: 5 s}]}",
            "role: datastore, store: {size: 1 TiB}",
        ],
    },
    "upgrade.yaml": {
        'to: {middle: "2"}': ["to: {middle: 2}", "to: {middle: 2.5}", 'to: {middle: "2"}\nname: other\nstarts_at: "22:30"\nhorizon: 2 h'],
        "{batches: 1}": ["{batches: all}", "{batches: [1, 2]}", "{}"],
        "behind a drain": ["behind a drain\n    order: [middle]", "behind a drain\n    order: [[middle]]"],
    },
}  # fmt: skip


def written(folder, name, old, new):
    """The templates in *folder*, with one text replaced; the plain data of the file that has it."""
    assert old in TEXTS[name]
    for file, text in TEXTS.items():
        (folder / file).write_text(text.replace(old, new) if file == name else text)
    return plain(folder / name)


@pytest.mark.parametrize(
    ("name", "old", "new"), [(n, old, new) for n, forms in FORMS.items() for old, news in forms.items() for new in news]
)
def test_every_form_that_the_loader_takes_fits(name, old, new, tmp_path):
    document = written(tmp_path, name, old, new)

    load(tmp_path / name)
    assert fits(document)


SLIPS = {
    "environment.yaml": [
        ("entry: web", "entri: web"),
        ("entry: web", ""),
        ("entry: web", "entry: web\nmixing: fail"),
        ("entry: web", "entry: web\ncells: {a: {on: ['web1!']}}"),
        ("entry: web", "entry: web\ncells: {a: {on: [web1, web2], share: 1 req/s}}"),
        ("format: 1", "format: 2"),
        ("name: shop", "name: my shop"),
        ("name: shop", "name: shop\ninputs: []"),
        ("name: web1", "name: web1, zome: a"),
        ("role: datastore", "role: database"),
        ("  web:\n", "  the web:\n"),
        ("on: [web1, web2]", "on: web1"),
        ("300 req/s ", "300 "),
        ("300 req/s ", "300 s "),
        ("300 req/s ", "-300 req/s "),
        ("300 req/s ", "fast "),
        ("{middle: 1.5}", "{middle: -1}"),
        ("{middle: 1.5}", "{middle: {times: 1, kind: soft}}"),
        ("value: 130 req/s, assumed", "value: 130, assumed"),
        ("value: 130 req/s, assumed", "value: 130 req/s, guessed"),
        (", assumed: a busy evening", ""),
        ("assumed: a busy evening", "assumed: 3"),
        ("assumed: a busy evening", "assumed: ''"),
        ("assumed: a busy evening", "assumed: a busy evening, really: yes"),
        ("drain: {", "drian: {"),
        ("duration: 30 s", "duration: 30"),
        ("duration: 30 s", "duration: 30 seconds"),
        ("duration: 30 s", "duration: {unifrom: [1 s, 2 s]}"),
        ("duration: 30 s", "duration: {uniform: [1 s]}"),
        ("duration: 30 s", "duration: {uniform: [1, 2]}"),
        ("duration: 30 s", "duration: {uniform: 2 s}"),
        ("duration: 30 s", "duration: {lognormal: {median: 1 s, p99: 2 s}}"),
        ("duration: 30 s", "duration: {fixed: 1 s, exponential: 2 s}"),
        ("duration: 30 s", "duration: {empirical: []}"),
        ("duration: 30 s", "duration: {weibull: [60 s, -1]}"),
        ("duration: 30 s", "duration: 30 s, p_fail: 1.5"),
        ("duration: 30 s", "duration: 30 s, p_fail: '0.5'"),
        ("duration: 30 s", "duration: 30 s, retries: -1"),
    ],
    "upgrade.yaml": [
        ("scenario: upgrade", "scenario: downgrade"),
        ("environment: environment.yaml", "environment: {name: shop}"),
        ("environment: environment.yaml", ""),
        ('{middle: "2"}', "{middle: [2]}"),
        ("format: 1", "format: 1\nforks: 0"),
        ("format: 1", "format: 1\nstarts_at: '25:00'"),
        ("p95(downtime_s) <= 30 s", "downtime_s <= 30 s"),
        ("p95(downtime_s) <= 30 s", "p95(downtime_s) = 30 s"),
        ("[failed_requests,", "[failed_request,"),
        ("take_out: stop", "take_out: kill"),
        ("take_out: stop", "take_of: stop"),
        ("batches: 1", "batches: 0"),
        ("batches: 1", "batches: some"),
        ("batches: 1", "batches: []"),
        ("batches: 1", "hand_over: perhaps"),
    ],
}


@pytest.mark.parametrize(("name", "old", "new"), [(name, *slip) for name, slips in SLIPS.items() for slip in slips])
def test_no_slip_fits(name, old, new, tmp_path):
    document = written(tmp_path, name, old, new)

    with pytest.raises(FileError):
        load(tmp_path / name)
    schema = SCHEMAS["scenario" if name == "upgrade.yaml" else "environment"]
    assert not Draft202012Validator(schema).is_valid(document)
