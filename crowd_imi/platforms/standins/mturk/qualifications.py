"""The Mechanical Turk stand-in's qualifications: types, who has which, and what a HIT type may require."""

import operator
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.platforms.standins.mturk import books
from crowd_imi.platforms.standins.mturk.books import Grant, QualificationType, Worker
from crowd_imi.platforms.standins.mturk.values import page, seconds, within, without_none
from crowd_imi.platforms.standins.mturk.wire import Params, turk_error

MOST_REQUIREMENTS = 10
_WITHOUT_VALUE, _WITH_SEVERAL = ("Exists", "DoesNotExist"), ("In", "NotIn")
_OF_LOCALES = ("EqualTo", "NotEqualTo", *_WITH_SEVERAL)
_ORDER: dict[str, Callable[[int, int], bool]] = {
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
}
GRANTED, REVOKED = "Granted", "Revoked"


def check_requirements(session: Session, requirements: list[dict[str, Any]]) -> None:
    """Check what a HIT type requires of workers.

    Raises:
        WireError: too many, an unknown qualification, or values that don't fit the comparator.
    """
    if len(requirements) > MOST_REQUIREMENTS:
        raise turk_error("ParameterOutOfRange", f"A HIT type has at most {MOST_REQUIREMENTS} QualificationRequirements.")
    for requirement in requirements:
        wanted = requirement["QualificationTypeId"]
        if wanted not in books.SYSTEM_QUALIFICATIONS:
            find_type(session, wanted)
        _check_values(requirement)


def _check_values(requirement: dict[str, Any]) -> None:
    comparator = requirement["Comparator"]
    integers, locales = requirement.get("IntegerValues", []), requirement.get("LocaleValues", [])
    is_locale = requirement["QualificationTypeId"] == books.LOCALE
    values = locales if is_locale else integers
    several = comparator in _WITH_SEVERAL
    if comparator in _WITHOUT_VALUE:
        fits = not integers and not locales
    elif is_locale:
        fits = comparator in _OF_LOCALES and not integers and 1 <= len(values) <= (30 if several else 1)
    else:
        fits = not locales and 1 <= len(values) <= (15 if several else 1)
    if not fits:
        raise turk_error(
            "InvalidQualificationRequirement", f"The values don't fit {comparator} of {requirement['QualificationTypeId']}."
        )


def qualifies(session: Session, worker: str, requirements: list[dict[str, Any]]) -> bool:
    """Whether a worker may accept a HIT with these requirements."""
    return all(_meets(session, worker, requirement) for requirement in requirements)


def _meets(session: Session, worker: str, requirement: dict[str, Any]) -> bool:
    value = _value(session, worker, requirement["QualificationTypeId"])
    comparator = str(requirement["Comparator"])
    if comparator in _WITHOUT_VALUE:
        return (value is not None) == (comparator == "Exists")
    if requirement["QualificationTypeId"] == books.LOCALE:
        values: list[Any] = [locale["Country"] for locale in requirement["LocaleValues"]]
    else:
        values = requirement["IntegerValues"]
    if value is None:
        return comparator in ("NotEqualTo", "NotIn")
    return _compare(comparator, value, values)


def _compare(comparator: str, value: int | str, values: list[Any]) -> bool:
    if comparator in ("EqualTo", "In"):
        return value in values
    if comparator in ("NotEqualTo", "NotIn"):
        return value not in values
    holds: bool = _ORDER[comparator](int(value), int(values[0]))
    return holds


def _value(session: Session, worker: str, wanted: str) -> int | str | None:
    person = worker_of(session, worker)
    if wanted in books.MASTERS:
        return 1 if person.masters else None
    system: dict[str, int | str] = {
        books.LOCALE: person.country,
        books.PERCENT_APPROVED: person.percent_approved,
        books.NUMBER_APPROVED: person.number_approved,
    }
    if wanted in system:
        return system[wanted]
    grant = _grant(session, wanted, worker)
    return grant.value if grant is not None and grant.status == GRANTED else None


def worker_of(session: Session, worker: str) -> Worker:
    """What the system qualifications say of somebody; who isn't in the books meets every common requirement."""
    found = session.get(Worker, worker)
    return found or Worker(id=worker, country="US", percent_approved=100, number_approved=10_000, masters=True)


def find_type(session: Session, wanted: str) -> QualificationType:
    """A qualification type of the requester's."""
    found = session.scalar(select(QualificationType).where(QualificationType.id == wanted))
    if found is None:
        raise turk_error("QualificationTypeDoesNotExist", f"QualificationType {wanted} does not exist.")
    return found


def _grant(session: Session, wanted: str, worker: str) -> Grant | None:
    return session.scalar(select(Grant).where(Grant.type_id == wanted, Grant.worker == worker))


def create_qualification_type(session: Session, params: Params, now: int) -> Params:
    """``CreateQualificationType``: a name is there once."""
    within("Name", len(params["Name"]), 1, 200)
    within("Description", len(params["Description"]), 1, 2000)
    if session.scalar(select(QualificationType).where(QualificationType.name == params["Name"])) is not None:
        raise turk_error(
            "QualificationTypeAlreadyExists",
            "You have already created a QualificationType with this name. A QualificationType's name must be unique among all of "
            f"the QualificationTypes created by the same user. ({now} s)",
        )
    made = QualificationType(
        id=books.new_id(),
        name=params["Name"],
        description=params["Description"],
        keywords=params.get("Keywords"),
        status=params["QualificationTypeStatus"],
        created_at=now,
    )
    session.add(made)
    return {"QualificationType": type_record(made)}


def get_qualification_type(session: Session, params: Params, now: int) -> Params:
    """``GetQualificationType``."""
    return {"QualificationType": type_record(find_type(session, params["QualificationTypeId"]))}


def update_qualification_type(session: Session, params: Params, now: int) -> Params:
    """``UpdateQualificationType``: all but its name."""
    found = find_type(session, params["QualificationTypeId"])
    if "Description" in params:
        within("Description", len(params["Description"]), 1, 2000)
        found.description = params["Description"]
    found.status = params.get("QualificationTypeStatus", found.status)
    return {"QualificationType": type_record(found)}


def delete_qualification_type(session: Session, params: Params, now: int) -> Params:
    """``DeleteQualificationType``."""
    session.delete(find_type(session, params["QualificationTypeId"]))
    return {}


def list_qualification_types(session: Session, params: Params, now: int) -> Params:
    """``ListQualificationTypes``: those whose name holds the query."""
    chosen = select(QualificationType)
    if "Query" in params:
        word = params["Query"]
        chosen = chosen.where(QualificationType.name.contains(word, autoescape=True) | QualificationType.keywords.contains(word))
    found, following = page(session, chosen, QualificationType, params)
    return {"QualificationTypes": [type_record(one) for one in found], "NumResults": len(found), **following}


def associate_qualification_with_worker(session: Session, params: Params, now: int) -> Params:
    """``AssociateQualificationWithWorker``: again changes the value."""
    wanted, worker = params["QualificationTypeId"], params["WorkerId"]
    find_type(session, wanted)
    grant = _grant(session, wanted, worker)
    if grant is None:
        grant = Grant(type_id=wanted, worker=worker, granted_at=now)
        session.add(grant)
    grant.value, grant.status = params.get("IntegerValue", 1), GRANTED
    grant.notified = params.get("SendNotification", True)
    return {}


def disassociate_qualification_from_worker(session: Session, params: Params, now: int) -> Params:
    """``DisassociateQualificationFromWorker``."""
    wanted, worker = params["QualificationTypeId"], params["WorkerId"]
    find_type(session, wanted)
    grant = _grant(session, wanted, worker)
    if grant is None or grant.status == REVOKED:
        raise turk_error("InvalidQualificationState", f"This operation can be called with a status of: Granted ({now} s)")
    grant.status = REVOKED
    return {}


def get_qualification_score(session: Session, params: Params, now: int) -> Params:
    """``GetQualificationScore``."""
    find_type(session, params["QualificationTypeId"])
    grant = _grant(session, params["QualificationTypeId"], params["WorkerId"])
    if grant is None:
        raise turk_error("QualificationDoesNotExist", f"You requested a Qualification that does not exist. ({now} s)")
    return {"Qualification": _grant_record(grant)}


def list_workers_with_qualification_type(session: Session, params: Params, now: int) -> Params:
    """``ListWorkersWithQualificationType``."""
    find_type(session, params["QualificationTypeId"])
    status = params.get("Status", GRANTED)
    chosen = select(Grant).where(Grant.type_id == params["QualificationTypeId"], Grant.status == status)
    found, following = page(session, chosen, Grant, params)
    return {"Qualifications": [_grant_record(one) for one in found], "NumResults": len(found), **following}


def type_record(made: QualificationType) -> Params:
    """A qualification type as the API shows it."""
    return without_none(
        {
            "QualificationTypeId": made.id,
            "CreationTime": seconds(made.created_at),
            "Name": made.name,
            "Description": made.description,
            "Keywords": made.keywords,
            "QualificationTypeStatus": made.status,
            "IsRequestable": True,
            "AutoGranted": False,
        }
    )


def _grant_record(grant: Grant) -> Params:
    return {
        "QualificationTypeId": grant.type_id,
        "WorkerId": grant.worker,
        "GrantTime": seconds(grant.granted_at),
        "IntegerValue": grant.value,
        "Status": grant.status,
    }
