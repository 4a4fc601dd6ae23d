"""Participant groups, which studies include or exclude."""

from typing import Any

from sqlalchemy import delete, select

from crowd_imi.platforms.standins.prolific.desk import Desk, bad_request, iso, new_id, not_found
from crowd_imi.platforms.standins.prolific.tables import Group, Member


def create(desk: Desk, values: dict[str, object]) -> dict[str, Any]:
    """``POST /participant-groups/``."""
    name = values.get("name")
    if not isinstance(name, str) or not name:
        raise bad_request({"name": ["this field is required"]})
    group = Group(id=new_id(), name=name, made_at=desk.now)
    desk.session.add(group)
    desk.session.flush()
    for participant in _named(values.get("participant_ids", [])):
        desk.session.add(Member(group_id=group.id, participant=participant, added_at=desk.now))
    desk.session.flush()
    return document(desk, group)


def find_group(desk: Desk, group: str) -> Group:
    """A group.

    Raises:
        Refusal: 404.
    """
    found = desk.session.scalar(select(Group).where(Group.id == group))
    if found is None:
        raise not_found(f"participant group {group}")
    return found


def add(desk: Desk, group: Group, values: dict[str, object]) -> None:
    """Put participants in; who is in already stays."""
    for participant in _named(values.get("participant_ids")):
        if desk.session.get(Member, (group.id, participant)) is None:
            desk.session.add(Member(group_id=group.id, participant=participant, added_at=desk.now))


def remove(desk: Desk, group: Group, values: dict[str, object]) -> None:
    """Take participants out."""
    named = _named(values.get("participant_ids"))
    desk.session.execute(delete(Member).where(Member.group_id == group.id, Member.participant.in_(named)))


def members(desk: Desk, group: Group) -> dict[str, Any]:
    """Who is in a group."""
    chosen = select(Member).where(Member.group_id == group.id).order_by(Member.added_at, Member.participant)
    return {
        "results": [
            {"participant_id": member.participant, "datetime_created": iso(member.added_at)}
            for member in desk.session.scalars(chosen)
        ]
    }


def document(desk: Desk, group: Group) -> dict[str, Any]:
    """A group as the API shows it."""
    count = len(desk.session.scalars(select(Member).where(Member.group_id == group.id)).all())
    return {
        "id": group.id,
        "name": group.name,
        "workspace_id": desk.setting("workspace"),
        "participant_count": count,
        "is_deleted": False,
    }


def _named(participants: object) -> list[str]:
    if not isinstance(participants, list) or not all(isinstance(each, str) and each for each in participants):
        raise bad_request({"participant_ids": ["must be a list of ids"]})
    return participants
