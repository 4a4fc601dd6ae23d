"""The API under what schemathesis makes up from its own description, wherever a visit stands.

Never a 5xx, every reply is as described, and what is refused changes nothing. Addresses that the description leaves out are
in ``test_fuzz_routes``.
"""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert, select

from crowd_imi.allocation import release_expired
from crowd_imi.pages.openapi import GIVES, TAKES, description
from crowd_imi.pages.pace import Pace
from crowd_imi.store.tables import Answer, Event, PageTime, PracticeAnswer, Visit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what schemathesis imports
    import schemathesis
    from schemathesis.core.transport import Response  # noqa: F401 - loaded here, where warnings are ignored

EXAMPLES = 8
SOAK_EXAMPLES = 250
TABLES = (Visit, PageTime, PracticeAnswer, Answer, Event)


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


def arrived(run):
    return run.visitor("ann")


def instructed(run):
    visitor = run.visitor("ann")
    assert visitor.consent().json["step"] == "instructions"
    return visitor


def practising(run):
    visitor = instructed(run)
    assert visitor.read_instructions().json["step"] == "practice"
    assert visitor.practise(visitor.view()["practice"], 0).status_code == 200
    return visitor


def answering(run):
    visitor = run.visitor("ann")
    visitor.begin_trials()
    assert [visitor.answer(position, "upper").status_code for position in range(3)] == [200] * 3
    return visitor


def answered(run):
    visitor = run.visitor("ann")
    visitor.answer_all()
    return visitor


def submitted(run):
    visitor = answered(run)
    assert visitor.post("/api/submit", {"feedback": "fine"}).status_code == 200
    return visitor


def declined(run):
    visitor = run.visitor("ann")
    assert visitor.consent(agree=False).json["step"] == "declined"
    return visitor


def timed_out(run):
    visitor = practising(run)
    with run.store.write() as session:
        release_expired(session, 0, run.store.now() + 1)
    return visitor


def goes_on_elsewhere(run):
    visitor = answering(run)
    run.visitor("ann")
    return visitor


STAGES = {
    arrived: {"/api/consent"},
    instructed: {"/api/instructions"},
    practising: {"/api/practice"},
    answering: {"/api/answers"},
    answered: {"/api/submit"},
    submitted: {"/api/submit"},
    declined: set(),
    timed_out: set(),
    goes_on_elsewhere: set(),
}
"""How a visit gets there → what it can do there, or has just done, so that some of what is made up must succeed."""
CLOSED = {timed_out: 410, goes_on_elsewhere: 401}


def fuzz(run, monkeypatch, stage, examples):
    """Every operation, each time from the same stage; returns path → the statuses that came."""
    # What the pace refuses would never be looked at.
    monkeypatch.setattr(Pace, "take", lambda *_: None)
    for engine in (run.store._engine, run.platform._engine):
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        engine.dispose()
    visitor = stage(run)
    next_steps = aims(run, visitor)
    before = rows(run)
    schema = schemathesis.openapi.from_dict(description(run.app))
    seen = {}

    for operation in schema.get_all_operations():
        api = operation.ok()
        good, bad = api.as_strategy(), api.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
        aimed_too = [st.tuples(good, st.just(True))] if api.path in next_steps else []

        @given(drawn=st.one_of(*aimed_too, st.tuples(st.one_of(good, bad), st.just(False))))
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(drawn):
            case, aimed = drawn
            headers = {"X-Visit-Token": visitor.token}
            if isinstance(case.body, bytes):
                body = {"data": case.body}
            elif aimed:
                body = {"json": {**case.body, **next_steps[case.path]}}
            else:
                body = {} if case.body.__class__.__name__ == "NotSet" else {"json": case.body}
            reply = visitor.client.open(case.path, method=case.method, headers=headers, **body)
            assert reply.status_code < 500, (case.method, case.path, reply.text)
            known = schema.raw_schema["paths"][case.path].get(case.method.lower())
            if known is not None:
                assert str(reply.status_code) in known["responses"], (case.path, reply.status_code, reply.text)
            if reply.status_code >= 400:
                assert reply.json["error"].endswith(".") and "\n" not in reply.json["error"] and "Traceback" not in reply.text
                assert rows(run) == before, (case.path, reply.text)
            else:
                put_back(run, before)
            seen.setdefault(case.path, set()).add(reply.status_code)

        ask()
    return seen


def aims(run, visitor):
    """What a body must say besides, to be about what comes next in a visit."""
    view = visitor.get("/api/visit").json
    if "step" not in view:
        return {}
    practice = view["practice"] or {"block": 1, "position": 0}
    return {
        "/api/consent": {"version": view["texts"]["consent"]["version"]},
        "/api/practice": {"block": practice["block"], "position": practice["position"]},
        "/api/answers": {"position": view["answered"]},
    }


def rows(run):
    with run.store.read() as session:
        return {table: [dict(row) for row in session.execute(select(table.__table__)).mappings()] for table in TABLES}


def put_back(run, before):
    with run.store.write() as session:
        for table in reversed(TABLES):
            session.execute(delete(table))
        for table in TABLES:
            if before[table]:
                session.execute(insert(table), before[table])


def check(run, monkeypatch, stage, examples):
    seen = fuzz(run, monkeypatch, stage, examples)
    assert set(seen) == set(description(run.app)["paths"])
    if stage in CLOSED:
        # Bodies may be refused before anybody looks at the visit; nothing else can happen.
        assert set.union(*seen.values()) <= {400, CLOSED[stage], 405, 413}
        return
    # Good and bad bodies were both among them.
    assert {204, 400} <= seen["/api/events"] and seen["/api/visit"] >= {200}
    for path in STAGES[stage]:
        assert {200, 400} <= seen[path], (path, seen[path])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_nothing_made_from_the_description_breaks_the_api(run, monkeypatch, stage):
    check(run, monkeypatch, stage, EXAMPLES)


@pytest.mark.soak
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_nothing_made_from_the_description_breaks_the_api_in_full(run, monkeypatch, stage):
    check(run, monkeypatch, stage, SOAK_EXAMPLES)


@pytest.mark.parametrize("key", ["p\n\x9e3", "<b>", 5000 * "k", ""])
def test_a_refusal_doesnt_repeat_a_key_that_no_name_has(run, key):
    reply = instructed(run).post("/api/instructions", {"browser": {key: 1}})
    assert reply.status_code == 400
    assert "(browser.….[key]: " in reply.json["error"] and "\n" not in reply.json["error"]


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
