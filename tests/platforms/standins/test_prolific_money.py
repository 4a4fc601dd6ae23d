"""Prolific's stand-in: rewards, rejections, bonuses and the balance."""

from collections.abc import Iterator

import pytest

from tests.platforms.standins.running import CORPORATE, Client, prolific

MESSAGE = "You chose the upper picture in every one of the 45 questions, within less than a second each, which nobody can."
COST = 227
"""A place at 150: 150 + 64 fee (42.8 %) + 13 VAT (20 % of the fee), each rounded half up."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with prolific(tmp_path_factory.mktemp("prolific"), "--settle-seconds", "60", *CORPORATE) as started:
        yield started


def decide(client: Client, submission: str, **content: object) -> str:
    return str(client.post(f"/submissions/{submission}/transition/", content)["status"])


def paid(client: Client, submission: str) -> list[int]:
    return [entry["amount"] for entry in client.books()["rewards"] if entry["submission"] == submission]


def bonuses(client: Client, submission: str) -> list[tuple[int, bool]]:
    return [(entry["amount"], entry["settled"]) for entry in client.books()["bonuses"] if entry["submission"] == submission]


def batch(client: Client, study: str, *lines: str) -> str:
    return str(client.post("/submissions/bonus-payments/", {"study_id": study, "csv_bonuses": "\n".join(lines)})["id"])


def test_approving_twice_pays_once(client: Client):
    submission = client.handed_in(client.published(), "paid-anna")
    before = client.books()["balance"]
    assert [decide(client, submission, action="APPROVE") for _ in range(2)] == ["APPROVED", "APPROVED"]
    assert paid(client, submission) == [150]
    assert before - client.books()["balance"] == COST
    assert "APPROVED" in client.refused(
        "POST",
        f"/submissions/{submission}/transition/",
        {"action": "REJECT", "message": MESSAGE, "rejection_category": "LOW_EFFORT"},
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"message": MESSAGE[:99]}, "message"),
        ({"message": None}, "message"),
        ({"rejection_category": "UGLY"}, "rejection_category"),
        ({"action": "SHRUG"}, "action"),
    ],
)
def test_a_rejection_needs_a_reason(client: Client, change: dict[str, object], field: str):
    submission = client.handed_in(client.published(), f"reason-{field}-{len(str(change))}")
    content = {"action": "REJECT", "message": MESSAGE[:100], "rejection_category": "LOW_EFFORT", **change}
    assert field in client.refused("POST", f"/submissions/{submission}/transition/", content)
    assert client.status(submission) == "AWAITING REVIEW"


def test_rejecting_twice_changes_nothing_and_pays_nothing(client: Client):
    submission = client.handed_in(client.published(), "rejected-anna")
    content = {"action": "REJECT", "message": MESSAGE[:100], "rejection_category": "TOO_QUICKLY"}
    assert [decide(client, submission, **content) for _ in range(2)] == ["REJECTED", "REJECTED"]
    assert paid(client, submission) == []
    client.refused("POST", f"/submissions/{submission}/transition/", {"action": "APPROVE"})


def test_who_is_still_at_it_is_neither_approved_nor_rejected(client: Client):
    submission = client.take(client.published(), "early-anna")
    client.refused("POST", f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    content = {"action": "REJECT", "message": MESSAGE, "rejection_category": "NO_DATA"}
    client.refused("POST", f"/submissions/{submission}/transition/", content)


def test_many_are_approved_at_once_or_none(client: Client):
    study = client.published()
    first, second = (client.handed_in(study, name) for name in ("bulk-anna", "bulk-ben"))
    at_it = client.take(study, "bulk-cleo")
    assert client.call("POST", "/submissions/bulk-approve/", {"submission_ids": [first, at_it]}).status_code == 400
    assert client.status(first) == "AWAITING REVIEW"
    client.post("/submissions/bulk-approve/", {"submission_ids": [first]})
    client.post("/submissions/bulk-approve/", {"study_id": study, "participant_ids": ["bulk-anna", "bulk-ben"]})
    assert [client.status(each) for each in (first, second)] == ["APPROVED", "APPROVED"]
    assert paid(client, first) == [150]
    for wrong in ({"submission_ids": ["0"] * 1001}, {}):
        reply = client.call("POST", "/submissions/bulk-approve/", wrong)
        assert reply.status_code == 400 and set(reply.json()) == {"message", "detail"}


def test_setting_a_bonus_up_pays_nothing_and_says_what_it_will_cost(client: Client):
    study = client.published()
    submission = client.handed_in(study, "quote-anna")
    quoted = client.post("/submissions/bonus-payments/", {"study_id": study, "csv_bonuses": f"{submission},4.25"})
    # 4.25 → 425; 42.8 % → 181.9 → 182; 20 % of that → 36.4 → 36.
    assert {name: quoted[name] for name in ("amount", "fees", "vat", "total_amount")} == {
        "amount": 425,
        "fees": 182,
        "vat": 36,
        "total_amount": 643,
    }
    assert bonuses(client, submission) == []


def test_a_bonus_settles_after_a_while(client: Client):
    study = client.published()
    now = 1_900_000_000_000
    clock = {"X-Rehearsal-Clock": str(now)}
    submission = client.take(study, "settle-anna", **clock)
    client.complete("settle-anna", **clock)
    identity = batch(client, study, f"{submission},0.75")
    reply = client.call("POST", f"/bulk-bonus-payments/{identity}/pay/", {}, **clock)
    assert reply.status_code == 202
    shown = {
        seconds: client.get(f"/submissions/{submission}/", **{"X-Rehearsal-Clock": str(now + seconds * 1000)})["bonus_payments"]
        for seconds in (0, 59, 60)
    }
    assert shown == {0: [], 59: [], 60: [75]}
    assert bonuses(client, submission) == [(75, False)]  # by the system's clock, which is years behind


def test_paying_a_batch_again_pays_again(client: Client):
    study = client.published()
    submission = client.handed_in(study, "twice-anna")
    identity = batch(client, study, "twice-anna,1")
    before = client.books()["balance"]
    for _ in range(2):
        assert client.call("POST", f"/bulk-bonus-payments/{identity}/pay/").status_code == 202
    assert [amount for amount, _ in bonuses(client, submission)] == [100, 100]
    # 100 + 43 + 9 each.
    assert before - client.books()["balance"] == 2 * 152


@pytest.mark.parametrize("amount", ["", "x", "0", "-1", "1.234", "NaN", "1e9999999", "4,25"])
def test_an_amount_that_is_none_is_refused(client: Client, amount: str):
    study = client.published()
    submission = client.handed_in(study, "amount-anna")
    content = {"study_id": study, "csv_bonuses": f"{submission},{amount}"}
    reply = client.call("POST", "/submissions/bonus-payments/", content)
    assert reply.status_code == 400 and set(reply.json()) == {"message", "detail"}


def test_bonuses_that_cannot_be_are_refused(client: Client):
    study, other = client.published(), client.published()
    submission = client.handed_in(study, "cannot-anna")
    for content in (
        {"study_id": study, "csv_bonuses": ""},
        {"study_id": study},
        {"study_id": "0", "csv_bonuses": f"{submission},1"},
        {"csv_bonuses": f"{submission},1"},
        {"study_id": other, "csv_bonuses": f"{submission},1"},
        {"study_id": study, "csv_bonuses": f"{submission},1\n{submission},1"},
        {"study_id": study, "csv_bonuses": f"{submission},1\n{submission},1\ncannot-anna,1" + f"\n{submission},1" * 198},
    ):
        assert client.call("POST", "/submissions/bonus-payments/", content).status_code == 400, content
    assert client.call("POST", "/bulk-bonus-payments/0/pay/").status_code == 404


def test_a_balance_that_is_too_small_refuses_publishing_more_places_and_bonuses(client: Client):
    draft, open_study = client.study(total_available_places=3), client.published(total_available_places=3)
    submission = client.handed_in(open_study, "poor-anna")
    client.post(f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    identity = batch(client, open_study, f"{submission},5")
    books = client.books()
    assigned = books["balance"] - books["available_balance"]
    set_to = {"total": assigned + 3 * COST - 1}
    assert client.standin("PUT", "/balance", set_to).json()["available"] == 3 * COST - 1
    try:
        assert "funds" in client.refused("POST", f"/studies/{draft}/transition/", {"action": "PUBLISH"})
        assert client.get(f"/studies/{draft}/")["status"] == "UNPUBLISHED"
        assert "funds" in client.refused("PATCH", f"/studies/{open_study}/", {"total_available_places": 6})
        reply = client.call("POST", f"/bulk-bonus-payments/{identity}/pay/")
        assert reply.status_code == 400 and "funds" in reply.json()["detail"]
        client.standin("PUT", "/balance", {"total": assigned + 3 * COST})
        client.post(f"/studies/{draft}/transition/", {"action": "PUBLISH"})
        assert client.books()["available_balance"] == 0
        # Stopping gives back what nobody can take any more.
        client.post(f"/studies/{draft}/transition/", {"action": "STOP"})
        assert client.books()["available_balance"] == 3 * COST
    finally:
        client.standin("PUT", "/balance", {"total": books["balance"]})


def test_the_api_shows_the_balance_that_the_books_have(client: Client):
    (workspace,) = client.get("/workspaces/")["results"]
    client.published(total_available_places=2)
    balance, books = client.get(f"/workspaces/{workspace['id']}/balance/"), client.books()
    assert (balance["total_balance"], balance["available_balance"]) == (books["balance"], books["available_balance"])
    assert balance["total_balance"] - balance["available_balance"] >= 2 * COST
