"""Approving, rejecting, and bonuses, which are set up first and paid by another call."""

import json
import re
from decimal import Decimal

from sqlalchemy import select

from crowd_imi.platforms.standins.prolific import money, studies, submissions
from crowd_imi.platforms.standins.prolific.desk import Desk, Refusal, bad_request, new_id, not_found
from crowd_imi.platforms.standins.prolific.tables import Bonus, BonusBatch, Reward, Study, Submission

SHORTEST_MESSAGE = 100
"""Characters that a rejected participant reads at least."""
MOST_APPROVED = 1000
MOST_BONUSES = 200
REJECTION_CATEGORIES = (
    *("TOO_QUICKLY", "TOO_SLOWLY", "FAILED_INSTRUCTIONS", "INCOMP_LONGITUDINAL", "FAILED_CHECK", "LOW_EFFORT", "MALINGERING"),
    *("NO_CODE", "BAD_CODE", "NO_DATA", "UNSUPP_DEVICE", "OTHER"),
)
APPROVABLE = ("AWAITING REVIEW", "TIMED-OUT", "PROCESSING")
_AMOUNT = re.compile(r"[0-9]{1,7}(\.[0-9]{1,2})?")
REJECTABLE = ("AWAITING REVIEW", "TIMED-OUT", "PROCESSING")


def transition(desk: Desk, submission: Submission, values: dict[str, object]) -> None:
    """``POST /submissions/{id}/transition/``: APPROVE or REJECT; the same again changes nothing."""
    action = values.get("action")
    if action == "APPROVE":
        approve(desk, submission)
    elif action == "REJECT":
        reject(desk, submission, values.get("message"), values.get("rejection_category"))
    else:
        raise bad_request({"action": ["must be APPROVE or REJECT"]})


def approve(desk: Desk, submission: Submission) -> None:
    """Pay the reward, once."""
    if submission.status == "APPROVED":
        return
    if submission.status not in APPROVABLE:
        raise bad_request(f"submission {submission.id} is {submission.status}, so it can't be approved")
    study = studies.find_study(desk, submission.study_id)
    pay_reward(desk, submission, studies.fields_of(study).reward)
    submissions.set_status(desk, submission, "APPROVED")


def pay_reward(desk: Desk, submission: Submission, amount: int) -> None:
    """Write a payment into the books, unless it is there."""
    if desk.session.get(Reward, submission.id) is None:
        fee = sum(money.fee_of(desk.account, amount))
        desk.session.add(Reward(submission_id=submission.id, amount=amount, fee=fee, paid_at=desk.now))


def reject(desk: Desk, submission: Submission, message: object, category: object) -> None:
    """Refuse the reward, with a message that the participant reads."""
    problems: dict[str, list[str]] = {}
    if not isinstance(message, str) or len(message) < SHORTEST_MESSAGE:
        problems["message"] = [f"must have at least {SHORTEST_MESSAGE} characters"]
    if category not in REJECTION_CATEGORIES:
        problems["rejection_category"] = [f"must be one of {', '.join(REJECTION_CATEGORIES)}"]
    if problems:
        raise bad_request(problems)
    if submission.status == "REJECTED":
        return
    if submission.status not in REJECTABLE:
        raise bad_request(f"submission {submission.id} is {submission.status}, so it can't be rejected")
    submission.note, submission.rejection_category = str(message), str(category)
    submissions.set_status(desk, submission, "REJECTED")


def bulk_approve(desk: Desk, values: dict[str, object]) -> None:
    """``POST /submissions/bulk-approve/``: all or none. By ``submission_ids``, or ``study_id`` with ``participant_ids``."""
    named = values.get("submission_ids") or values.get("participant_ids")
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise bad_request("give submission_ids, or study_id with participant_ids", plain=True)
    if len(named) > MOST_APPROVED:
        raise bad_request(f"at most {MOST_APPROVED} submissions are approved at once; these are {len(named)}", plain=True)
    if values.get("submission_ids"):
        chosen = [submissions.find_submission(desk, each) for each in named]
    else:
        study = studies.find_study(desk, str(values.get("study_id")))
        chosen = [_of(desk, study, each) for each in named]
    for submission in chosen:
        approve(desk, submission)


def set_up_bonuses(desk: Desk, values: dict[str, object]) -> dict[str, object]:
    """``POST /submissions/bonus-payments/``: nothing is paid yet."""
    study = _study(desk, values.get("study_id"))
    csv = values.get("csv_bonuses")
    if not isinstance(csv, str) or not csv.strip():
        raise bad_request("csv_bonuses must hold one line per bonus: id,4.25", plain=True)
    lines = [_line(desk, study, line) for line in csv.strip().splitlines()]
    named = {submission for submission, _ in lines}
    if len(lines) > MOST_BONUSES:
        raise bad_request(f"at most {MOST_BONUSES} bonuses are set up at once; these are {len(lines)}", plain=True)
    if len(named) < len(lines):
        raise bad_request("the same submission is named twice", plain=True)
    batch = BonusBatch(id=new_id(), study_id=study.id, lines=json.dumps(lines), made_at=desk.now)
    desk.session.add(batch)
    parts = [money.fee_of(desk.account, amount) for _, amount in lines]
    amount, fees, vat = sum(amount for _, amount in lines), sum(fee for fee, _ in parts), sum(tax for _, tax in parts)
    return {"id": batch.id, "study": study.id, "amount": amount, "fees": fees, "vat": vat, "total_amount": amount + fees + vat}


def pay_bonuses(desk: Desk, batch: str) -> None:
    """``POST /bulk-bonus-payments/{id}/pay/``: **each call pays**, whatever was paid before."""
    found = desk.session.get(BonusBatch, batch)
    if found is None:
        raise not_found(f"bulk bonus payment {batch}", plain=True)
    lines = [(str(submission), int(amount)) for submission, amount in json.loads(found.lines)]
    fees = [sum(money.fee_of(desk.account, amount)) for _, amount in lines]
    available, cost = money.available_balance(desk), sum(amount for _, amount in lines) + sum(fees)
    if cost > available:
        raise bad_request(f"not enough funds: this costs {cost} and {available} is available", plain=True)
    for (submission, amount), fee in zip(lines, fees, strict=True):
        bonus = Bonus(
            batch_id=found.id,
            submission_id=submission,
            amount=amount,
            fee=fee,
            paid_at=desk.now,
            settles_at=desk.now + round(desk.account.settle_seconds * 1000),
        )
        desk.session.add(bonus)


def _study(desk: Desk, study: object) -> Study:
    if not isinstance(study, str):
        raise bad_request("study_id is missing", plain=True)
    found = desk.session.scalar(select(Study).where(Study.id == study))
    if found is None:
        raise bad_request(f"study {study} wasn't found", plain=True)
    return found


def _line(desk: Desk, study: Study, line: str) -> tuple[str, int]:
    """One line of csv_bonuses: a submission's or participant's id, and an amount in major units."""
    named, _, amount = (part.strip() for part in line.partition(","))
    submission = desk.session.scalar(select(Submission).where(Submission.study_id == study.id, Submission.id == named))
    if submission is None:
        try:
            submission = _of(desk, study, named)
        except Refusal:
            raise bad_request(f"{named} didn't take part in study {study.id}", plain=True) from None
    return submission.id, _minor_units(line, amount)


def _minor_units(line: str, amount: str) -> int:
    if not _AMOUNT.fullmatch(amount) or Decimal(amount) == 0:
        raise bad_request(f"{line!r}: {amount!r} is no amount such as 4.25, above 0 and with at most two decimals", plain=True)
    return int(Decimal(amount) * 100)


def _of(desk: Desk, study: Study, participant: str) -> Submission:
    """A participant's last submission in a study."""
    chosen = select(Submission).where(Submission.study_id == study.id, Submission.participant == participant)
    found = desk.session.scalar(chosen.order_by(Submission.number.desc()).limit(1))
    if found is None:
        raise not_found(f"a submission of participant {participant} in study {study.id}")
    return found
