"""Subscribing to events: a secret for the workspace, a subscription, and its confirmation."""

import secrets
from typing import Any

from sqlalchemy import select

from crowd_imi.platforms.standins.prolific.desk import Desk, bad_request, new_id, not_found
from crowd_imi.platforms.standins.prolific.events import EVENT_TYPES
from crowd_imi.platforms.standins.prolific.fields import safe_url
from crowd_imi.platforms.standins.prolific.tables import Setting, Subscription

SECRET = "hook_secret"


def make_secret(desk: Desk, values: dict[str, object]) -> dict[str, Any]:
    """``POST /hooks/secrets/``: a new one takes the place of the one before."""
    _check_workspace(desk, values)
    desk.session.merge(Setting(name=SECRET, value=secrets.token_urlsafe(32)))
    desk.session.flush()
    return _secret(desk)


def list_secrets(desk: Desk) -> dict[str, Any]:
    """``GET /hooks/secrets/``."""
    return {"results": [] if desk.session.get(Setting, SECRET) is None else [_secret(desk)]}


def subscribe(desk: Desk, values: dict[str, object]) -> tuple[dict[str, Any], str]:
    """``POST /hooks/subscriptions/``: nothing is sent before it is confirmed.

    Returns:
        The subscription, and the X-Hook-Secret that confirms it.
    """
    _check_workspace(desk, values)
    event_type, target = values.get("event_type"), values.get("target_url")
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        raise bad_request(f"event_type must be one of {', '.join(EVENT_TYPES)}", plain=True)
    if not isinstance(target, str) or not safe_url(target):
        raise bad_request("target_url must begin with https:// (or lead to this machine)", plain=True)
    if desk.session.get(Setting, SECRET) is None:
        raise bad_request("the workspace has no secret yet; POST /api/v1/hooks/secrets/ first", plain=True)
    subscription = Subscription(
        id=new_id(), event_type=event_type, target_url=target, confirmation=secrets.token_hex(16), enabled=False
    )
    desk.session.add(subscription)
    return document(desk, subscription), subscription.confirmation


def confirm(desk: Desk, subscription: Subscription, values: dict[str, object]) -> None:
    """``POST /hooks/subscriptions/{id}/`` with the X-Hook-Secret of the reply to subscribing."""
    said = values.get("secret")
    if not isinstance(said, str) or not secrets.compare_digest(said, subscription.confirmation):
        raise bad_request("secret must be the X-Hook-Secret that came when subscribing", plain=True)
    subscription.enabled = True


def change(subscription: Subscription, values: dict[str, object]) -> None:
    """``PATCH``: switch it on or off, or send somewhere else."""
    enabled, target = values.get("is_enabled", subscription.enabled), values.get("target_url", subscription.target_url)
    if not isinstance(enabled, bool) or not isinstance(target, str) or not safe_url(target):
        raise bad_request("is_enabled must be true or false, and target_url begin with https://", plain=True)
    subscription.enabled, subscription.target_url = enabled, target


def find_subscription(desk: Desk, subscription: str) -> Subscription:
    """A subscription.

    Raises:
        Refusal: 404.
    """
    found = desk.session.scalar(select(Subscription).where(Subscription.id == subscription))
    if found is None:
        raise not_found(f"subscription {subscription}", plain=True)
    return found


def list_subscriptions(desk: Desk) -> dict[str, Any]:
    """``GET /hooks/subscriptions/``."""
    found = desk.session.scalars(select(Subscription).order_by(Subscription.number))
    return {"results": [document(desk, subscription) for subscription in found]}


def document(desk: Desk, subscription: Subscription) -> dict[str, Any]:
    """A subscription as the API shows it."""
    return {
        "id": subscription.id,
        "event_type": subscription.event_type,
        "target_url": subscription.target_url,
        "is_enabled": subscription.enabled,
        "workspace_id": desk.setting("workspace"),
    }


def _secret(desk: Desk) -> dict[str, Any]:
    return {"id": desk.setting("workspace"), "value": desk.setting(SECRET), "workspace_id": desk.setting("workspace")}


def _check_workspace(desk: Desk, values: dict[str, object]) -> None:
    if values.get("workspace_id") != desk.setting("workspace"):
        raise not_found(f"workspace {values.get('workspace_id')}", plain=True)
