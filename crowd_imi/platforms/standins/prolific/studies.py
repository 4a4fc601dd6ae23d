"""Studies: made as drafts, published, paused, stopped; and how the API shows them."""

from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select

from crowd_imi.platforms.standins.prolific import events, money
from crowd_imi.platforms.standins.prolific.desk import Desk, bad_request, iso, new_id, not_found
from crowd_imi.platforms.standins.prolific.fields import StudyFields, checked, misfits
from crowd_imi.platforms.standins.prolific.filters import FILTERS
from crowd_imi.platforms.standins.prolific.tables import Group, Study, Submission

OCCUPYING = ("RESERVED", "ACTIVE", "AWAITING REVIEW", "APPROVED", "PARTIALLY APPROVED", "REJECTED", "PROCESSING")
"""Statuses that take up a place. RETURNED, TIMED-OUT and SCREENED OUT ones give it back."""
FINISHED = ("AWAITING REVIEW", "APPROVED", "PARTIALLY APPROVED", "REJECTED")
CHANGEABLE = frozenset({"internal_name", "total_available_places", "access_details", "submissions_config"})
"""What may change once a study was published."""

TRANSITIONS = {
    "PUBLISH": (("UNPUBLISHED",), "ACTIVE"),
    "PAUSE": (("ACTIVE",), "PAUSED"),
    "START": (("PAUSED",), "ACTIVE"),
    "STOP": (("ACTIVE", "PAUSED"), "STOPPED"),
}
"""Action → the lives it begins from, and the one it leads to."""


def find_study(desk: Desk, study: str) -> Study:
    """A study.

    Raises:
        Refusal: 404.
    """
    found = desk.session.scalar(select(Study).where(Study.id == study))
    if found is None:
        raise not_found(f"study {study}")
    return found


def fields_of(study: Study) -> StudyFields:
    """What its requester wrote."""
    return StudyFields.model_validate_json(study.fields)


def create(desk: Desk, values: object) -> Study:
    """A draft: nothing is spent and nobody sees it."""
    fields = _checked(desk, values)
    study = Study(
        id=new_id(),
        life="UNPUBLISHED",
        status="UNPUBLISHED",
        fields=fields.model_dump_json(),
        created_at=desk.now,
        published_at=None,
    )
    desk.session.add(study)
    desk.session.flush()
    return study


def change(desk: Desk, study: Study, values: object) -> None:
    """``PATCH``: everything of a draft, four things of a published study."""
    if not isinstance(values, dict):
        raise bad_request("the body must be a JSON object")
    before = fields_of(study)
    after = _checked(desk, {**before.model_dump(mode="json"), **values})
    if study.life != "UNPUBLISHED":
        _check_change_of_published(desk, study, before, after, values)
    study.fields = after.model_dump_json()
    refresh(desk, study)


def delete(desk: Desk, study: Study) -> None:
    """Only drafts can be deleted."""
    if study.life != "UNPUBLISHED":
        raise bad_request(f"study {study.id} was published, so it can't be deleted; stop it instead")
    desk.session.delete(study)


def transition(desk: Desk, study: Study, action: object) -> None:
    """PUBLISH, PAUSE, START or STOP."""
    if not isinstance(action, str) or action not in TRANSITIONS:
        raise bad_request({"action": [f"must be one of {', '.join(TRANSITIONS)}"]})
    begins, leads_to = TRANSITIONS[action]
    if study.life not in begins:
        raise bad_request(f"study {study.id} is {study.status}, so {action} isn't possible")
    if action == "PUBLISH":
        fields = fields_of(study)
        _check_funds(desk, money.cost_of(desk.account, fields.reward, fields.total_available_places)["total_cost"])
        study.published_at = desk.now
    study.life = leads_to
    refresh(desk, study)


def refresh(desk: Desk, study: Study) -> None:
    """Bring the shown status up to date, and tell subscribers when it changed."""
    status = _status(desk, study)
    if status != study.status:
        study.status = status
        events.record_study(desk, study)


def taken(desk: Desk, study: Study) -> int:
    """Places that nobody else can have."""
    return _count(desk, study, OCCUPYING)


def document(desk: Desk, study: Study) -> dict[str, Any]:
    """A study as ``GET /studies/{id}/`` shows it."""
    fields = fields_of(study)
    cost = money.cost_of(desk.account, fields.reward, fields.total_available_places)
    return {
        **fields.model_dump(mode="json"),
        "id": study.id,
        "status": study.status,
        "date_created": iso(study.created_at),
        "published_at": iso(study.published_at),
        "maximum_allowed_time": fields.allowed_minutes,
        "places_taken": taken(desk, study),
        "number_of_submissions": _count(desk, study, FINISHED),
        "total_cost": cost["total_cost"],
        "fees_percentage": desk.account.fee * 100,
        "vat_percentage": desk.account.vat * 100,
        "presentment_currency_code": desk.account.currency,
        "project": fields.project or desk.setting("project"),
        "workspace": desk.setting("workspace"),
        "researcher": {"id": desk.setting("user")},
        "study_type": "SINGLE",
        "publish_at": None,
    }


def summary(desk: Desk, study: Study) -> dict[str, Any]:
    """A study in a list."""
    shown = (
        *("id", "name", "internal_name", "status", "date_created", "published_at", "reward", "total_available_places"),
        *("places_taken", "number_of_submissions", "total_cost", "presentment_currency_code", "study_type", "publish_at"),
    )
    whole = document(desk, study)
    return {name: whole[name] for name in shown}


def _status(desk: Desk, study: Study) -> str:
    if study.life in ("UNPUBLISHED", "PAUSED"):
        return study.life
    if study.life == "STOPPED":
        return "AWAITING REVIEW" if _count(desk, study, money.UNDER_WAY) else "COMPLETED"
    if _count(desk, study, FINISHED) < fields_of(study).total_available_places:
        return "ACTIVE"
    return "AWAITING REVIEW" if _count(desk, study, ("AWAITING REVIEW",)) else "COMPLETED"


def _count(desk: Desk, study: Study, statuses: tuple[str, ...]) -> int:
    chosen = select(func.count()).where(Submission.study_id == study.id, Submission.status.in_(statuses))
    return desk.session.scalar(chosen) or 0


def _checked(desk: Desk, values: object) -> StudyFields:
    try:
        fields = checked(values, desk.account.currency)
    except ValidationError as error:
        raise misfits(error) from None
    if fields.project is not None and fields.project != desk.setting("project"):
        raise bad_request({"project": [f"project {fields.project} doesn't exist, or isn't yours"]})
    _check_filters_ids(desk, fields)
    return fields


def _check_filters_ids(desk: Desk, fields: StudyFields) -> None:
    """Studies and groups that filters name exist."""
    for chosen in fields.filters:
        known = {
            "previous_studies_": select(Study.id),
            "participant_group_": select(Group.id),
        }.get(chosen.filter_id.removesuffix("blocklist").removesuffix("allowlist"))
        if known is None or FILTERS[chosen.filter_id].choices is not None:
            continue
        there = set(desk.session.scalars(known))
        missing = [value for value in chosen.selected_values or () if value not in there]
        if missing:
            raise bad_request({"filters": [f"filter {chosen.filter_id}: {', '.join(missing)} doesn't exist"]})


def _check_change_of_published(
    desk: Desk, study: Study, before: StudyFields, after: StudyFields, values: dict[str, object]
) -> None:
    was = before.model_dump(mode="json")
    fixed = sorted(name for name, value in values.items() if name not in CHANGEABLE and was.get(name) != value)
    if fixed:
        raise bad_request({name: ["can't change once the study was published"] for name in fixed})
    more = after.total_available_places - before.total_available_places
    if more < 0:
        raise bad_request({"total_available_places": ["can only be increased once the study was published"]})
    if more and study.life == "STOPPED":
        raise bad_request(f"study {study.id} was stopped, so it gets no more places")
    _check_funds(desk, money.cost_of(desk.account, after.reward, more)["total_cost"])


def _check_funds(desk: Desk, cost: int) -> None:
    available = money.available_balance(desk)
    if cost > available:
        raise bad_request(
            f"not enough funds: this costs {cost} and {available} is available ({desk.account.currency}, in its sub-currency)"
        )
