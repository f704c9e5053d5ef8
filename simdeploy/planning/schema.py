"""JSON Schema of the two files, for editors that complete and check them: keys, words, units and forms.

It is made from the models. Rules that span several keys are left to the loader.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from simdeploy.environment.files import TAKING_TURNS
from simdeploy.environment.loading import MARKS
from simdeploy.environment.models import Environment
from simdeploy.planning.kinds import KINDS
from simdeploy.planning.scenario import Upgrade

Json = dict[str, Any]
FILES = ("environment", "scenario")
NOTES = ("title", "description", "default", "examples")
"""What a schema says to people."""
_BESIDE = {mark: {"$ref": f"#/$defs/{mark}"} for mark in MARKS}


def schema_text(file: str) -> str:
    """The schema of one kind of file, 'environment' or 'scenario', as JSON."""
    return json.dumps(json_schema(file), indent=1, ensure_ascii=False)


def json_schema(file: str) -> Json:
    """The JSON Schema (draft 2020-12) of one kind of file, 'environment' or 'scenario'."""
    if file == "environment":
        schema = Environment.model_json_schema(schema_generator=_OfYaml)
        _compose(schema)
        wholes = [schema]
    else:
        kinds: Any = Union[tuple(kind.model for kind in KINDS.values())]  # noqa: UP007  # of a tuple
        schema = TypeAdapter(Annotated[kinds, Field(discriminator="scenario")]).json_schema(schema_generator=_OfYaml)
        del schema["discriminator"]  # OpenAPI's word
        wholes = [schema["$defs"][kind.model.__name__] for kind in KINDS.values()]
        for whole, kind in zip(wholes, KINDS.values(), strict=True):
            filled_in = ("name", "strategies") if issubclass(kind.model, Upgrade) else ("name",)  # from the file's name, the built-in ones
            whole["required"] = [key for key in whole["required"] if key not in filled_in]
    for whole in wholes:
        whole["description"] = whole["description"].partition("\n\n")[0]  # the rest is about Python
    texts = {mark: {"type": "string", "pattern": r"\S", "description": f"The value is {mark}; this says why or where."} for mark in MARKS}
    quantities: Json = {}
    schema = _with_marks(_quantities_once(schema, quantities))
    schema["$defs"] = {name: _with_marks(part) for name, part in schema["$defs"].items()} | quantities | texts
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _compose(schema: Json) -> None:
    """Allow what the loader resolves in an environment: `like` another file, which then has what is required, and counted machines."""
    schema["properties"]["like"] = {
        "type": "string",
        "description": "The environment file that this one stands on; it says only what differs.",
    }
    schema["anyOf"] = [{"required": ["like"]}, {"required": schema.pop("required")}]
    for name in ("Service", "Cell"):
        schema["$defs"][name].pop("required")
    machine = schema["$defs"]["Machine"]["properties"]
    count = "So many machines; their names have {n} where the number goes, their zones and update domains take turns."
    machine["count"] = {"type": "integer", "minimum": 1, "description": count, "examples": [50]}
    for key in TAKING_TURNS:
        named = machine[key]["anyOf"][0]
        machine[key]["anyOf"] = [named, {"type": "array", "items": named, "minItems": 1}, *machine[key]["anyOf"][1:]]
    machine["name"]["pattern"] = machine["name"]["pattern"].replace("._-]", "._{}-]")
    for name in ("Service", "Cell"):
        items = schema["$defs"][name]["properties"]["on"]["items"]
        items["pattern"] = items["pattern"].replace("._-]", "._*-]").replace("^[A-Za-z0-9]", "^[A-Za-z0-9*]")


class _OfYaml(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # it would be the Python name

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """With the default only where a file could say it: not None, nothing empty, no seconds without their unit."""
        result = super().default_schema(schema)
        default = result.get("default")
        if default in (None, "", []) or isinstance(default, dict) or (isinstance(default, float) and "pattern" in result):
            result.pop("default", None)
        return result


def _quantities_once(part: Any, found: Json) -> Any:
    """*part* of a schema with each quantity (a text with a pattern and a title) as a reference; what it refers to goes to *found*."""
    if isinstance(part, list):
        return [_quantities_once(inner, found) for inner in part]
    if not isinstance(part, dict):
        return part
    if not {"pattern", "title"} <= set(part):
        return {key: _quantities_once(inner, found) for key, inner in part.items()}
    name = part["title"].partition(":")[0]
    found[name] = {key: inner for key, inner in part.items() if key not in NOTES}
    return {key: inner for key, inner in part.items() if key in NOTES} | {"$ref": f"#/$defs/{name}"}


def _with_marks(schema: Json) -> Json:
    """*schema* that takes marks where the loader does: beside the keys of any mapping, and around any value."""
    schema = dict(schema)
    if "patternProperties" in schema:  # names -> values, said so that a mark is no name and nothing else may come in
        [(pattern, values)] = schema.pop("patternProperties").items()
        schema |= {"propertyNames": {"pattern": pattern}, "additionalProperties": values}
    if "enum" in schema.get("propertyNames", {}):  # said so that editors complete them
        schema["properties"] = dict.fromkeys(schema.pop("propertyNames")["enum"], schema["additionalProperties"])
        schema["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = _place(schema[key])
    for key, change in (("prefixItems", _place), ("anyOf", _with_marks), ("oneOf", _with_marks)):
        if key in schema:
            schema[key] = [change(inner) for inner in schema[key]]
    if schema.get("type") == "object":
        schema["properties"] = {key: _place(inner) for key, inner in schema.get("properties", {}).items()} | _BESIDE
    return schema


def _place(schema: Json) -> Json:
    """*schema* for a value that may also be written as {value: ..., assumed: ...}."""
    value = _with_marks(schema)
    notes = {key: part.pop(key) for part in (*value.get("anyOf", [])[:1], value) for key in NOTES if key in part}
    around: Json = {"type": "object", "properties": {"value": value} | _BESIDE, "required": ["value"], "additionalProperties": False}
    around["minProperties"] = 2
    return {**notes, "anyOf": [*(value["anyOf"] if set(value) == {"anyOf"} else [value]), around]}
