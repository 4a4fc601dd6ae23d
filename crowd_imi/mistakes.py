"""What is wrong with a file that a person wrote, in that person's words: every mistake with its key and what would be right."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from crowd_imi.records import Record

JsonSchema = Mapping[str, Any]

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text in quotes",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def mistakes(model: type[Record], raw: object) -> Iterator[str]:
    """One line per mistake: ``tasks.trials = 0 doesn't work; right would be a whole number, at least 1``.

    Args:
        model: what the file should hold.
        raw: what it holds, as plain dictionaries, lists and values.
    """
    try:
        model.model_validate(raw)
    except ValidationError as error:
        schema = _schema(model)
        problems = error.errors(include_url=False)
        for problem in problems:
            if not _counts_only_right_items(problem, problems):
                yield _describe(problem, schema)


def _counts_only_right_items(problem: ErrorDetails, problems: Iterable[ErrorDetails]) -> bool:
    """Whether a list is called too short because its items are wrong, each of which is reported by itself."""
    where = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(where) and other["loc"][: len(where)] == where for other in problems
    )


@cache
def _schema(model: type[Record]) -> JsonSchema:
    return model.model_json_schema()


def expectation(field: JsonSchema, whole: JsonSchema) -> str:
    """What a value must be, from its JSON schema: ``a whole number, at least 1``."""
    field = _resolved(field, whole)
    if "anyOf" in field:
        return " or ".join(expectation(each, whole) for each in field["anyOf"] if each.get("type") != "null")
    if "const" in field:
        return written(field["const"])
    if "enum" in field:
        return "one of " + ", ".join(written(value) for value in field["enum"])
    parts = [_TYPES.get(field.get("type", ""), "another value"), *_limits(field)]
    if field.get("type") == "array" and _resolved(field.get("items", {}), whole).get("type") not in (None, "object"):
        parts.append(f"each {expectation(field['items'], whole)}")
    return ", ".join(parts)


def dotted(location: Iterable[int | str]) -> str:
    """A key as people write it: ``arms[0].units``, where 0 is the first."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def written(value: object) -> str:
    """A value as TOML writes it, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(each) for each in value) + "]"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + '…"'


def _limits(field: JsonSchema) -> Iterator[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minItems": "at least {} of them",
        "minProperties": "with at least {} entry",
    }
    for key, text in words.items():
        if key in field and not (key == "minLength" and field[key] == 1):
            yield text.format(field[key])
    if field.get("minLength") == 1:
        yield "not empty"
    if "pattern" in field:
        yield f"of the form {field.get('form') or _PATTERNS.get(field['pattern'], field['pattern'])}"


_PATTERNS = {
    r"^[a-z0-9][a-z0-9_-]*$": "small letters, digits, - and _, e.g. resnet50",
    r"^[A-Z]{3}$": "three capitals, e.g. USD",
}


def _describe(problem: ErrorDetails, schema: JsonSchema) -> str:
    location = [part for part in problem["loc"] if part != "[key]"]
    key = dotted(location)
    match problem["type"]:
        case "extra_forbidden":
            return _unknown_key(location, schema)
        case "missing":
            return f"{key} is missing; right would be {_right(location, schema)}"
        case _ if "[key]" in problem["loc"]:
            return f"{key} can't be a name here; right would be {_right_name(location, schema)}"
        case "value_error":
            return f"{key or 'the file'}: {problem['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{key} = {written(problem['input'])} doesn't work; right would be {_right(location, schema)}"


def _unknown_key(location: list[int | str], schema: JsonSchema) -> str:
    *parents, name = location
    parent = _at(parents, schema)
    known = sorted(parent.get("properties", {}))
    near = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {dotted([*parents, near[0]])}?" if near else f"known here: {', '.join(known)}"
    return f"{dotted(location)} isn't a known key; {hint}"


def _right(location: list[int | str], schema: JsonSchema) -> str:
    field = _at(location, schema)
    key = dotted(location)
    if field.get("type") == "object":
        required = f" with {', '.join(field['required'])}" if field.get("required") else ""
        if isinstance(location[-1], int):
            return f"a table [[{dotted(location[:-1])}]]{required}"
        return f"a table [{key}]{required}" if "properties" in field else f"tables [{key}.NAME]"
    if field.get("type") == "array" and _resolved(field.get("items", {}), schema).get("type") == "object":
        return f"tables [[{key}]], in double brackets"
    return expectation(field, schema)


def _right_name(location: list[int | str], schema: JsonSchema) -> str:
    parent = _at(location[:-1], schema)
    pattern = next(iter(parent.get("patternProperties", {})), None)
    names = {"pattern": pattern} if pattern else parent.get("propertyNames", {})
    return expectation({"type": "string", **names}, schema)


def _at(location: list[int | str], schema: JsonSchema) -> JsonSchema:
    """The schema of the value at ``location``; an empty one where the schema doesn't say."""
    here = schema
    for part in location:
        here = _resolved(here, schema)
        listed = isinstance(part, int)
        here = here.get("items", {}) if listed else here.get("properties", {}).get(part) or _any_property(here)
    return _resolved(here, schema)


def _any_property(table: JsonSchema) -> JsonSchema:
    """What stands under a name of the writer's choice, as in ``[models.NAME]``."""
    if "patternProperties" in table:
        return next(iter(table["patternProperties"].values()), {})
    extra = table.get("additionalProperties", {})
    return extra if isinstance(extra, Mapping) else {}


def _resolved(field: JsonSchema, whole: JsonSchema) -> JsonSchema:
    if "$ref" in field:
        target: JsonSchema = whole["$defs"][field["$ref"].rsplit("/", 1)[-1]]
        return target
    return field
