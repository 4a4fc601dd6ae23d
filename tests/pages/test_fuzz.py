"""The API under what schemathesis makes up from its own description: never a 5xx, and every reply is as described."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crowd_imi.pages.openapi import GIVES, TAKES, description
from crowd_imi.pages.pace import Pace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what schemathesis imports
    import schemathesis
    from schemathesis.core.transport import Response  # noqa: F401 - loaded here, where warnings are ignored

EXAMPLES = 40
SOAK_EXAMPLES = 1500


def test_the_description_names_every_address_and_body(run):
    told = description(run.app)
    assert told["openapi"] == "3.1.0"
    addresses = {rule.rule for rule in run.app.url_map.iter_rules() if rule.rule.startswith("/api/")}
    assert set(told["paths"]) == addresses == set(TAKES) | set(GIVES)
    for path, operations in told["paths"].items():
        [operation] = operations.values()
        assert ("requestBody" in operation) == (path in TAKES) and operation["summary"]
    # Objects refuse what they don't know.
    for model in TAKES.values():
        assert told["components"]["schemas"][model.__name__]["additionalProperties"] is False


def fuzz(run, monkeypatch, examples):
    # What the pace refuses would never be looked at.
    monkeypatch.setattr(Pace, "take", lambda *_: None)
    visitor = run.visitor("ann")
    visitor.begin_trials()
    schema = schemathesis.openapi.from_dict(description(run.app))
    seen = {}

    for operation in schema.get_all_operations():
        api = operation.ok()

        @given(case=st.one_of(api.as_strategy(), api.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)))
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case):
            headers = {"X-Visit-Token": visitor.token}
            if isinstance(case.body, bytes):
                body = {"data": case.body}
            else:
                body = {} if case.body.__class__.__name__ == "NotSet" else {"json": case.body}
            reply = visitor.client.open(case.path, method=case.method, headers=headers, **body)
            assert reply.status_code < 500, (case.method, case.path, reply.text)
            known = schema.raw_schema["paths"][case.path].get(case.method.lower())
            if known is not None:
                assert str(reply.status_code) in known["responses"], (case.path, reply.status_code, reply.text)
            if reply.status_code >= 400:
                assert reply.json["error"].endswith(".") and "\n" not in reply.json["error"] and "Traceback" not in reply.text
            seen.setdefault(case.path, set()).add(reply.status_code)

        ask()
    return seen


def test_nothing_made_from_the_description_breaks_the_api(run, monkeypatch):
    seen = fuzz(run, monkeypatch, EXAMPLES)
    assert set(seen) == set(description(run.app)["paths"])
    # Good and bad bodies were both among them.
    assert {204, 400} <= seen["/api/events"] and {204, 400} <= seen["/api/page"]


@pytest.mark.soak
def test_nothing_made_from_the_description_breaks_the_api_in_full(run, monkeypatch):
    fuzz(run, monkeypatch, SOAK_EXAMPLES)


def test_a_thousand_bytes_that_are_no_json_break_nothing(run, monkeypatch):
    monkeypatch.setattr(Pace, "take", lambda *_: None)
    visitor = run.visitor("ann")

    @given(body=st.binary(max_size=1000), path=st.sampled_from(sorted(TAKES)))
    @settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def send(body, path):
        reply = visitor.client.post(path, data=body, headers={"X-Visit-Token": visitor.token})
        assert reply.status_code == 400 and reply.json["code"] == "bad-request"

    send()


@pytest.mark.parametrize("path", sorted(TAKES))
def test_a_thousand_brackets_are_refused(run, path):
    reply = run.visitor("ann").client.post(path, data=b"[" * 60_000, headers={"X-Visit-Token": "x"})
    assert reply.status_code in (400, 401)
