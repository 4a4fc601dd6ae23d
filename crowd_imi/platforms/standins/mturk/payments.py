"""The Mechanical Turk stand-in's money beside the rewards: the balance and bonuses."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.platforms.standins.mturk import books
from crowd_imi.platforms.standins.mturk.books import Assignment, Payment
from crowd_imi.platforms.standins.mturk.hits import find_assignment, find_hit, require_funds
from crowd_imi.platforms.standins.mturk.values import cents, dollars, page, seconds, within
from crowd_imi.platforms.standins.mturk.wire import Params, turk_error


def get_account_balance(session: Session, params: Params, now: int) -> Params:
    """``GetAccountBalance``: what isn't held for open HITs."""
    hold = books.on_hold(session, now)
    return {"AvailableBalance": dollars(books.balance_of(session) - hold), "OnHoldBalance": dollars(hold)}


def send_bonus(session: Session, params: Params, now: int) -> Params:
    """``SendBonus``: once for each ``UniqueRequestToken``."""
    amount = cents(params["BonusAmount"])
    within("BonusAmount in cents", amount, 1, 10_000_00)
    within("Reason", len(params["Reason"]), 1, 4000)
    token = params.get("UniqueRequestToken")
    if books.token_made(session, "bonus", token, now) is not None:
        raise turk_error("DuplicateRequest", f"The idempotency token {token} has already been processed. ({now} s)")
    assignment = find_assignment(session, params["AssignmentId"], now)
    if assignment.worker != params["WorkerId"]:
        raise turk_error("InvalidWorker", f"The worker didn't work on assignment {assignment.id}. ({now} s)")
    fee = books.percent_of(amount, 20)
    require_funds(session, amount + fee, now)
    session.add(
        Payment(
            kind="bonus",
            assignment_id=assignment.id,
            worker=assignment.worker,
            amount=amount,
            fee=fee,
            reason=params["Reason"],
            token=token,
            paid_at=now,
        )
    )
    books.keep_token(session, "bonus", token, assignment.id, now)
    return {}


def list_bonus_payments(session: Session, params: Params, now: int) -> Params:
    """``ListBonusPayments``: of a HIT or of an assignment."""
    if ("HITId" in params) == ("AssignmentId" in params):
        raise turk_error("InvalidParameterValue", "Give either HITId or AssignmentId.")
    chosen = select(Payment).where(Payment.kind == "bonus")
    if "HITId" in params:
        hit = find_hit(session, params["HITId"])
        chosen = chosen.where(Payment.assignment_id.in_(select(Assignment.id).where(Assignment.hit_id == hit.id)))
    else:
        chosen = chosen.where(Payment.assignment_id == find_assignment(session, params["AssignmentId"], now).id)
    found, following = page(session, chosen, Payment, params)
    payments = [
        {
            "WorkerId": payment.worker,
            "BonusAmount": dollars(payment.amount),
            "AssignmentId": payment.assignment_id,
            "Reason": payment.reason,
            "GrantTime": seconds(payment.paid_at),
        }
        for payment in found
    ]
    return {"BonusPayments": payments, "NumResults": len(payments), **following}
