"""The API's description in OpenAPI 3.1, made from the same models that requests are read with.

It isn't served: the task page needs none, and participants get nothing that they don't need. Tests fuzz the API with it.
"""

from typing import Any

from flask import Flask
from pydantic.json_schema import models_json_schema

from crowd_imi import __version__
from crowd_imi.pages import requests as bodies
from crowd_imi.pages import view
from crowd_imi.pages.context import TOKEN_HEADER
from crowd_imi.records import Record

TAKES: dict[str, type[bodies.Request]] = {
    "/api/consent": bodies.ConsentRequest,
    "/api/page": bodies.PageRequest,
    "/api/instructions": bodies.InstructionsRequest,
    "/api/practice": bodies.PracticeRequest,
    "/api/answers": bodies.AnswerRequest,
    "/api/events": bodies.EventRequest,
    "/api/submit": bodies.SubmitRequest,
}
GIVES: dict[str, type[Record]] = {
    "/api/visit": view.VisitView,
    "/api/consent": view.StepReply,
    "/api/incompatible": view.StepReply,
    "/api/instructions": view.StepReply,
    "/api/practice": view.PracticeReply,
    "/api/answers": view.AnswerReply,
    "/api/submit": view.SubmitReply,
}
"""Addresses that aren't here reply 204 without a body."""

REFUSALS = {
    400: "it isn't what this address takes",
    401: "the token isn't ours, or the visit goes on in another window",
    409: "not possible where the visit stands",
    410: "the visit's time is over",
    413: "the request is too large",
    429: "the visit asks too often",
    503: "nothing can be stored at the moment: the same request works later",
}


def description(app: Flask) -> dict[str, Any]:
    """Every address below ``/api/`` of an app, with what it takes and gives."""
    paths: dict[str, Any] = {}
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/"):
            method = "get" if "GET" in (rule.methods or ()) else "post"
            paths[rule.rule] = {method: _operation(rule.rule, app.view_functions[rule.endpoint].__doc__ or "")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "crowd-imi: the task page's API", "version": __version__},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"visit": {"type": "apiKey", "in": "header", "name": TOKEN_HEADER}},
        },
        "security": [{"visit": []}],
    }


def _operation(path: str, text: str) -> dict[str, Any]:
    done = {"200": _content("it is done", GIVES[path])} if path in GIVES else {"204": {"description": "it is kept"}}
    refused = {str(status): _content(reason, view.Problem) for status, reason in REFUSALS.items()}
    operation: dict[str, Any] = {"summary": text.splitlines()[0], "responses": done | refused}
    if path in TAKES:
        operation["requestBody"] = {"required": True, "content": _json(TAKES[path])}
    return operation


def _content(text: str, model: type[Record]) -> dict[str, Any]:
    return {"description": text, "content": _json(model)}


def _json(model: type[Record]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _schemas() -> dict[str, Any]:
    taken = [(model, "validation") for model in TAKES.values()]
    given = [(model, "serialization") for model in {*GIVES.values(), view.Problem}]
    _, schema = models_json_schema([*taken, *given], ref_template="#/components/schemas/{model}")  # type: ignore[list-item]
    found: dict[str, Any] = schema["$defs"]
    return dict(sorted(found.items()))
