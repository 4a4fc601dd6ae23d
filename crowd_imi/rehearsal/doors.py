"""Where participants of a rehearsal find places, hand in and leave: a door per platform, beside the pages, which are the same.

The local platform has its list of places; the others are stood in for by servers in processes of their own, or, where
the researcher invites, by the platform's own books.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from crowd_imi.errors import PlatformError, RehearsalError
from crowd_imi.platforms.link import LinkPlatform
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.rehearsal.wire import Reply, Wire
from crowd_imi.store.clock import Clock

JSON = {"Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place on the platform."""

    posting: str
    submission: str
    arrival_url: str


class Door(Protocol):
    """A platform as its participants meet it."""

    def free_places(self) -> int:
        """How many places nobody has taken."""
        ...

    def tick(self) -> None:
        """Tell whoever keeps a clock what time it is in the rehearsal."""
        ...

    def postings(self) -> list[str]:
        """What somebody who looks for work sees."""
        ...

    def take(self, posting: str, participant: str) -> Ticket | None:
        """Take a place; None when there is none for this participant."""
        ...

    def give_back(self, ticket: Ticket) -> Reply | None:
        """Leave without handing in; None where there is nobody to tell."""
        ...

    def hand_in(self, participant: str, url: str, form: Mapping[str, str] | None) -> Reply:
        """Go where the last page sends the browser."""
        ...

    def known_as(self, participant: str) -> str:
        """What the platform calls somebody."""
        ...


class LocalDoor:
    """The local platform's list of places."""

    def __init__(self, wire: Wire, places_url: str, platform: LocalPlatform) -> None:
        self._wire, self._url, self._platform = wire, places_url, platform

    def free_places(self) -> int:
        return sum(place.free for place in self._platform.open_places())

    def tick(self) -> None:
        """Its books go by the rehearsal's own clock."""

    def postings(self) -> list[str]:
        reply = self._wire.send("GET", f"{self._url}/", JSON)
        return [str(place["posting"]) for place in _content(reply).get("places", ())]

    def take(self, posting: str, participant: str) -> Ticket | None:
        return _ticket(posting, self._wire.send("POST", f"{self._url}/take", JSON, _wish(posting, participant)))

    def give_back(self, ticket: Ticket) -> Reply:
        return self._wire.send("POST", f"{self._url}/give-back", JSON, {"submission": ticket.submission})

    def hand_in(self, participant: str, url: str, form: Mapping[str, str] | None) -> Reply:
        return self._wire.send("GET", url, {})

    def known_as(self, participant: str) -> str:
        return participant


class StandinDoor:
    """A stand-in's participants' side; ``posting`` is the study's."""

    def __init__(self, wire: Wire, url: str, posting: str, clock: Clock) -> None:
        self._wire, self._url, self._posting, self._clock = wire, url, posting, clock
        self._names: dict[str, str] = {}

    def free_places(self) -> int:
        self.tick()
        found = self._read("places")
        return sum(int(place["free"]) for place in found["places"] if place["posting"] == self._posting)

    def tick(self) -> None:
        """The adapter asks without a rehearsal's clock, so the stand-in's is set to it."""
        reply = self._wire.send("PUT", f"{self._url}/standin/clock", {}, {"now": self._clock.now()})
        if not reply.ok:
            raise RehearsalError(f"the stand-in at {self._url} takes no clock: {reply.status} {reply.content[:200]!r}")

    def postings(self) -> list[str]:
        return [self._posting]

    def take(self, posting: str, participant: str) -> Ticket | None:
        self.tick()
        reply = self._wire.send("POST", f"{self._url}/standin/take", {}, _wish(posting, participant))
        if reply.ok:
            self._names[participant] = str(_content(reply).get("participant", participant))
        return _ticket(posting, reply)

    def give_back(self, ticket: Ticket) -> Reply:
        return self._wire.send("POST", f"{self._url}/standin/give-back", {}, {"submission": ticket.submission})

    def hand_in(self, participant: str, url: str, form: Mapping[str, str] | None) -> Reply:
        self.tick()
        headers = {"X-Standin-Participant": participant}
        if form is None:
            return self._wire.send("GET", url, headers)
        return self._wire.send("POST", url, headers, form=form)

    def known_as(self, participant: str) -> str:
        return self._names.get(participant, participant)

    def _read(self, what: str) -> Any:  # noqa: ANN401 (JSON is any of its types)
        reply = self._wire.send("GET", f"{self._url}/standin/{what}", {})
        if not reply.ok:
            raise RehearsalError(f"the stand-in at {self._url} doesn't tell its {what}: {reply.status} {reply.content[:200]!r}")
        return _content(reply)


class LinkDoor:
    """Everybody has an invitation in a mail of their own, and uses it when a place is free."""

    def __init__(self, wire: Wire, platform: LinkPlatform, posting: str, pages_url: str) -> None:
        self._wire, self._platform, self._posting, self._pages_url = wire, platform, posting, pages_url

    def free_places(self) -> int:
        return self._platform.free_places(self._posting)

    def tick(self) -> None:
        """Its books go by the rehearsal's own clock."""

    def postings(self) -> list[str]:
        return [self._posting]

    def take(self, posting: str, participant: str) -> Ticket | None:
        (invitation,) = self._platform.invite(posting, [participant])
        try:
            entry = self._platform.entry(dict(parse_qsl(urlsplit(invitation.url).query)))
            found = self._platform.arrive(entry)
        except PlatformError:
            return None
        return Ticket(posting, found.id, f"{self._pages_url}/arrive?{urlencode(entry)}")

    def give_back(self, ticket: Ticket) -> None:
        self._platform.give_back(ticket.submission)

    def hand_in(self, participant: str, url: str, form: Mapping[str, str] | None) -> Reply:
        return self._wire.send("GET", url, {})

    def known_as(self, participant: str) -> str:
        (invitation,) = self._platform.invite(self._posting, [participant])
        return invitation.id


def _wish(posting: str, participant: str) -> dict[str, str]:
    return {"posting": posting, "participant": participant}


def _ticket(posting: str, reply: Reply) -> Ticket | None:
    if not reply.ok:
        return None
    body = _content(reply)
    return Ticket(posting, str(body["submission"]), str(body["arrival_url"]))


def _content(reply: Reply) -> Any:  # noqa: ANN401 (JSON is any of its types)
    try:
        return json.loads(reply.content)
    except ValueError:
        return {}
