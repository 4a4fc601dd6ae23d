"""A rehearsal: a whole study with simulated participants who take part through the real pages."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError
from sqlalchemy import func, select

from crowd_imi import __version__
from crowd_imi.design.begun import current_plan
from crowd_imi.errors import RehearsalError
from crowd_imi.files import write_atomically
from crowd_imi.harvester import harvest
from crowd_imi.lifecycle import UNDER_WAY, VisitState
from crowd_imi.plan import Plan
from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.link import LinkPlatform
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice, PlatformName, open_platform
from crowd_imi.platforms.own_books import OwnBooks
from crowd_imi.progress import Track, silent
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.records import Record
from crowd_imi.rehearsal.crowd import Crowd
from crowd_imi.rehearsal.doors import Door, LinkDoor, LocalDoor, StandinDoor
from crowd_imi.rehearsal.outcomes import lost, outcome, stored_visits
from crowd_imi.rehearsal.records import Cast, LeakName, Rehearsal
from crowd_imi.rehearsal.schedule import HOUR, Schedule
from crowd_imi.rehearsal.server import Server
from crowd_imi.rehearsal.standins import credentials, free_port, standin
from crowd_imi.rehearsal.wire import HttpWire, Wire
from crowd_imi.store import SimulatedClock, Store, StoreKind
from crowd_imi.store.postings import keep_platform
from crowd_imi.store.tables import Visit
from crowd_imi.study import Study

PREVIEW = "preview"
"""The folder below rehearsals/ that is no rehearsal's."""
BEGIN = 1_767_603_600_000
"""Every rehearsal begins on Monday, 5 January 2026, 9:00 UTC."""


class Rehearsing(Record):
    """``rehearsing.json``: what a rehearsal in this folder was asked to do, and whether it came to its end."""

    plan_sha256: str
    seed: int
    cast: Cast | None = None
    """Who takes part; None while that isn't settled."""
    leak: LeakName | None = None
    version: str | None = None
    """Of crowd-imi; None in what the versions wrote that didn't say."""
    finished: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a rehearsal takes place: its books, its clock, and the addresses of its pages."""

    study: Study
    plan: Plan
    folder: Path
    store: Store
    platform: Platform
    clock: SimulatedClock
    choice: Choice
    """Which platform, and where its pages will be."""


@dataclass(frozen=True, slots=True)
class _Standing:
    complete: bool
    short: tuple[str, ...]
    under_way: int


def rehearse(  # noqa: PLR0913 (all but the first two have defaults)
    study: Study,
    name: str,
    *,
    on: PlatformName = "local",
    participants: Cast | None = None,
    seed: int = 1,
    leak: LeakName | None = None,
    track: Track = silent,
    beside: Callable[[Server, Wire], AbstractContextManager[object]] = lambda server, wire: nullcontext(),
) -> Rehearsal:
    """Rehearse a planned study in ``rehearsals/NAME``; what an earlier rehearsal left there is deleted.

    Args:
        study: with a plan and its sprites.
        name: of the rehearsal's folder.
        on: the platform, by its stand-in.
        participants: who takes part.
        seed: of everybody's way of being and of when they come; the same seed gives the same answers.
        leak: planted for the positive control.
        track: shows how far it is.
        beside: what goes on while participants take part; a test kills the server there.

    Raises:
        RehearsalError: the name isn't one or is the preview's, the folder holds an unfinished rehearsal of another plan, or the
            server doesn't come up.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name) is None:
        raise RehearsalError(
            f"--name {name!r}: a rehearsal's name has letters, digits, - and _ and names a folder below rehearsals/"
        )
    if name.casefold() == PREVIEW:  # some disks tell no capitals apart
        raise RehearsalError(
            f"--name {name}: `crowd-imi preview` has its folder there and would delete the rehearsal; choose another name"
        )
    begin, cast = time.monotonic(), participants or Cast()
    plan = current_plan(study)
    if leak is not None and on != "local":
        raise RehearsalError(f"a leak is planted on the local platform, not on {on}: what leaks are pages, which are the same")
    with (
        open_stage(study, plan, name, seed, on) as stage,
        Server(study.folder, name, leak, port=urlsplit(stage.choice.pages_url).port or 0) as server,
    ):
        posting = launch(study, stage.store, stage.platform, stage.choice.model_copy(update={"pages_url": server.pages_url}))
        wire = HttpWire(stage.clock)
        crowd = make_crowd(stage, open_door(stage, wire, server, posting.platform_id or ""), wire, cast, seed)
        with beside(server, wire):
            play(crowd, track)
        wire.close()
        rehearsal = conclude(stage, crowd, name=name, leak=leak, seconds=time.monotonic() - begin)
    _note(study.rehearsal(name), _finished(plan, seed, cast, leak))
    return rehearsal


def finished(study: Study, name: str, plan: Plan, seed: int, cast: Cast) -> Rehearsal | None:
    """What the same rehearsal said when it came to its end; None when there is none.

    The same: of this plan, with this seed and these participants, by this version of crowd-imi, and without a leak.
    """
    folder = study.rehearsal(name)
    try:
        if _noted(folder) != _finished(plan, seed, cast, None):
            return None
        return Rehearsal.model_validate_json((folder / "rehearsal.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _finished(plan: Plan, seed: int, cast: Cast, leak: LeakName | None) -> Rehearsing:
    return Rehearsing(plan_sha256=plan.sha256, seed=seed, cast=cast, leak=leak, version=__version__, finished=True)


def _noted(folder: Path) -> Rehearsing:
    return Rehearsing.model_validate_json((folder / "rehearsing.json").read_bytes())


@contextmanager
def open_stage(study: Study, plan: Plan, name: str, seed: int, on: PlatformName = "local") -> Iterator[Stage]:
    """A fresh run folder with a store and a platform of its own, for which other platforms' stand-ins are started."""
    folder = study.rehearsal(name)
    _clear(folder, plan)
    _note(folder, Rehearsing(plan_sha256=plan.sha256, seed=seed, finished=False))
    clock = SimulatedClock(BEGIN)
    store = create_store(study, plan, folder, StoreKind.REHEARSAL, clock)
    try:
        with credentials(on), standin(on, folder) as endpoint:
            # The local platform is told where its pages are; others must know it before the server is started.
            port = 0 if on == "local" else free_port()
            choice = Choice(name=on, pages_url=f"http://127.0.0.1:{port}", endpoint_url=endpoint)
            with store.write() as session:
                keep_platform(session, choice.model_dump_json())
            platform = open_platform(study, folder, choice, clock)
            yield Stage(study, plan, folder, store, platform, clock, choice)
            if isinstance(platform, OwnBooks):
                platform.close()
    finally:
        store.close()


def open_door(stage: Stage, wire: Wire, server: Server, posting: str) -> Door:
    """Where participants come to the stage's platform."""
    platform = stage.platform
    if isinstance(platform, LocalPlatform):
        return LocalDoor(wire, server.places_url, platform)
    if isinstance(platform, LinkPlatform):
        return LinkDoor(wire, platform, posting, server.pages_url)
    return StandinDoor(wire, stage.choice.endpoint_url or "", posting, stage.clock)


def make_crowd(stage: Stage, door: Door, wire: Wire, cast: Cast, seed: int) -> Crowd:
    """Everybody who takes part, and the harvester."""

    def round_of_harvest() -> _Standing:
        door.tick()
        found = harvest(stage.study, stage.store, stage.platform)
        with stage.store.read() as session:
            waiting = sorted({*UNDER_WAY, VisitState.SUBMITTED, VisitState.FAILED_PRACTICE})
            under_way = session.scalar(select(func.count()).where(Visit.state.in_(waiting)))
        return _Standing(found.complete, found.short, under_way or 0)

    return Crowd(
        schedule=Schedule(stage.clock),
        wire=wire,
        door=door,
        cast=cast,
        tasks=len(stage.plan.tasks),
        seed=seed,
        harvest=round_of_harvest,
    )


def play(crowd: Crowd, track: Track = silent) -> None:
    """Let the simulation run to its end, and show how many people have come."""

    def people() -> Iterator[int]:
        shown = 0
        for _now in crowd.run():
            while shown < len(crowd.people):
                shown += 1
                yield shown

    for _number in track(people(), "participants"):
        pass


def conclude(stage: Stage, crowd: Crowd, *, name: str, leak: LeakName | None, seconds: float) -> Rehearsal:
    """Compare what happened with what should have, and write ``rehearsal.json``."""
    visits = stored_visits(stage.study, stage.store, stage.platform.name, crowd.people)
    outcomes = tuple(
        outcome(number, person, visits.get(person.browser.participant), stage.study.file.exclusion)
        for number, person in enumerate(crowd.people, 1)
    )
    acknowledged = [said for person in crowd.people for said in person.browser.acknowledged.values()]
    missing = tuple(lost(acknowledged, visits))
    rehearsal = Rehearsal(
        study=stage.study.file.study.name,
        name=name,
        seed=crowd.seed,
        leak=leak,
        ended=crowd.ended or "participants",
        short=crowd.short,
        participants=len(outcomes),
        visits=len(visits),
        by_state=dict(sorted(Counter(visit.state for visit in visits.values()).items())),
        by_character=dict(sorted(Counter(o.character for o in outcomes).items())),
        outcomes=outcomes,
        mismatches=(*(o.complaint for o in outcomes if not o.ok), *missing),
        acknowledged=len(acknowledged),
        lost=len(missing),
        cheaters=crowd.pool.result(),
        requests=crowd.wire.requests,
        retries=crowd.wire.retries,
        harvests=crowd.harvests,
        simulated_hours=round((stage.clock.now() - BEGIN) / HOUR, 2),
        seconds=round(seconds, 1),
    )
    write_atomically(stage.folder / "rehearsal.json", rehearsal.model_dump_json(indent=1).encode() + b"\n")
    return rehearsal


def _clear(folder: Path, plan: Plan) -> None:
    """Delete what an earlier rehearsal left, and nothing else."""
    leaving = folder.with_name(f".deleting-{folder.name}")
    shutil.rmtree(leaving, ignore_errors=True)
    if not folder.exists():
        return
    try:
        earlier = _noted(folder)
    except (FileNotFoundError, ValidationError):
        raise RehearsalError(f"{folder}: this isn't a rehearsal's folder; choose another --name, or move it away") from None
    if not earlier.finished and earlier.plan_sha256 != plan.sha256:
        raise RehearsalError(
            f"{folder}: an unfinished rehearsal of another plan is here; choose another --name, or delete the folder"
        )
    # Renamed first, so that a crash in between doesn't leave half a folder under this name.
    folder.rename(leaving)
    shutil.rmtree(leaving)


def _note(folder: Path, note: Rehearsing) -> None:
    write_atomically(folder / "rehearsing.json", note.model_dump_json(indent=1).encode() + b"\n")
