"""``crowd-imi harvest`` and ``crowd-imi status``."""

import signal
import threading
import time
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal

if TYPE_CHECKING:
    from crowd_imi.harvester import Harvest
    from crowd_imi.harvester.rules import TopUp
    from crowd_imi.harvester.what_if import WhatIf
    from crowd_imi.platforms.base import Platform
    from crowd_imi.platforms.mturk.notifications import NoticeQueue
    from crowd_imi.store import Store
    from crowd_imi.study import ExclusionSection, Study

Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Go on until every task has its valid response, or is short with no place left that somebody may take, and "
        "nothing was refused.",
    ),
]
Every = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="With --watch: how often, give or take a tenth.")]
Queue = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="CROWD_IMI_EVENTS_QUEUE",
        help="With --watch: an SQS queue that Mechanical Turk tells what happens; asked between rounds.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show whom other limits (--set) would have excluded; nothing is touched.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="With --dry-run: another limit, e.g. exclusion.min_catch_ratio=0.6."),
]

Remarks = Annotated[
    bool, typer.Option("--remarks", help="Show what participants wrote on the last page, the pilot's too, instead.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(harvest)
    app.command()(status)


def harvest(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    watch: Watch = False,
    every: Every = 30.0,
    queue: Queue = None,
    dry_run: DryRun = False,
    settings: Settings = None,
    rehearsal: Rehearsal = None,
    as_json: Json = False,
) -> None:
    """Collect what was submitted, check it, pay it, and offer again what doesn't count."""
    output = Output(as_json)
    if dry_run and watch:
        raise typer.BadParameter("--dry-run looks once; leave out --watch")
    if settings and not dry_run:
        raise typer.BadParameter("--set is for --dry-run; to harvest by other limits, edit [exclusion] in study.toml")
    if dry_run:
        _look(output, folder, rehearsal, settings or [])
    else:
        _harvest(output, folder, rehearsal, every if watch else None, queue)


def _harvest(output: Output, folder: Path, rehearsal: str | None, every: float | None, queue: str | None) -> None:
    from crowd_imi import harvester
    from crowd_imi.cli.run_folder import open_run, run_folder
    from crowd_imi.errors import PlatformError
    from crowd_imi.harvester.collect import Inbox, Known
    from crowd_imi.harvester.watching import watch
    from crowd_imi.ledger import lease
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.store.lab import require_lab_key
    from crowd_imi.store.money import HARVESTER
    from crowd_imi.study import load_study

    study = load_study(folder)
    store, platform = open_run(study, rehearsal)
    require_lab_key(store)
    _tell_post_hoc(output, study, rehearsal)
    narrator = _Narrator(output, study, run_folder(study, rehearsal))
    known = Known()
    inbox = Inbox(study, store, platform, _events_queue(study, store, platform, queue) if every is not None else None)
    with lease(store, "harvest", study.file.pay.cap_money, name=HARVESTER) as alone, _until_told_to_stop() as stop:

        def take_round(about: Collection[str] | None) -> "Harvest":
            now = load_study(folder)  # the cap and the thresholds may be edited while this runs
            if rehearsal is None:
                hold_to_lock(now)
            if about is None:
                try:
                    inbox.news()  # what was told until now is looked at by reading everything
                except PlatformError as error:
                    narrator.say(f"{error}; everything is read all the same")
            done = harvester.harvest(now, store, platform, known, about)
            inbox.looked()
            return done

        def hold() -> None:
            with store.write() as session:
                alone.renew(session)

        if every is None:
            last: Harvest | None = take_round(None)
            narrator.tell(last)  # type: ignore[arg-type]
        else:
            last = watch(take_round, every, stop, narrator.tell, narrator.tell_failure, inbox.news, hold)
            if stop.is_set():
                narrator.say("stopped as asked; run it again to go on")
    if last is not None:
        output.result(last)
        if every is None and last.broken_off:
            raise typer.Exit(1)


def _events_queue(study: "Study", store: "Store", platform: "Platform", url: str | None) -> "NoticeQueue | None":
    """The queue, once Mechanical Turk was told to write to it."""
    if url is None:
        return None
    from crowd_imi.errors import HarvestError
    from crowd_imi.platforms.mturk import MturkPlatform
    from crowd_imi.platforms.mturk.notifications import NoticeQueue
    from crowd_imi.store.postings import postings

    if not isinstance(platform, MturkPlatform):
        raise HarvestError(f"--queue is for Mechanical Turk; this study is on {platform.name}")
    parts = urlsplit(url)
    queue = NoticeQueue(url, study.file.mturk.profile, f"{parts.scheme}://{parts.netloc}")  # of whatever region or service it is
    with store.read() as session:
        posted = [posting.platform_id for posting in postings(session) if posting.platform_id is not None]
    for posting in posted:
        platform.notify(posting, url)
    return queue


@contextmanager
def _until_told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the process as usual, which loses nothing either."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _look(output: Output, folder: Path, rehearsal: str | None, settings: Sequence[str]) -> None:
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.harvester.what_if import what_if
    from crowd_imi.publisher.lock import load_lock
    from crowd_imi.study import load_study

    study = load_study(folder)
    limits = _other_limits(study.file.exclusion, settings)
    store, _ = open_run(study, rehearsal)
    lock = load_lock(study) if rehearsal is None else None
    found = what_if(store, limits, None if lock is None else lock.exclusion)
    if not output.as_json:
        _show(output, found)
    output.result(found)


def _other_limits(limits: "ExclusionSection", settings: Sequence[str]) -> "ExclusionSection":
    """The limits with ``--set`` applied; values are written as in study.toml."""
    from crowd_imi.errors import StudyError
    from crowd_imi.mistakes import mistakes
    from crowd_imi.study import ExclusionSection

    content = limits.model_dump(exclude_none=True)
    for setting in settings:
        key, _, value = setting.partition("=")
        section, _, name = key.strip().rpartition(".")
        if section != "exclusion" or name not in ExclusionSection.model_fields:
            known = ", ".join(f"exclusion.{field}" for field in ExclusionSection.model_fields)
            raise typer.BadParameter(f"--set {setting}: only limits can be tried out: {known}")
        try:
            content[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise typer.BadParameter(f"--set {setting}: write it as in study.toml, e.g. {key}=0.6") from None
    problems = [f"--set exclusion.{problem}" for problem in mistakes(ExclusionSection, content)]
    if problems:
        raise StudyError(*problems)
    return ExclusionSection.model_validate(content)


def _show(output: Output, found: "WhatIf") -> None:
    from rich.table import Table

    if not found.arms:
        output.say("nothing was judged yet, so there is nothing to compare")
        return
    criteria = Table("criterion", "as judged", "with these limits", "failed", "would fail", box=None, pad_edge=False)
    for one in found.criteria:
        before, after = one.limit_before or "not asked", one.limit_after or "not asked"
        same = "the same" if before == after else after
        criteria.add_row(one.criterion.replace("_", " "), before, same, str(one.excluded_before), str(one.excluded_after))
    arms = Table("arm", "judged", "excluded", "would be", "MIS", "would be", "nobody excluded", box=None, pad_edge=False)
    for arm in found.arms:
        scores = (arm.mis_before, arm.mis_after, arm.mis_nobody_excluded)
        said = ("–" if score is None else f"{score:.3f}" for score in scores)
        arms.add_row(arm.arm, str(arm.judged), str(arm.excluded_before), str(arm.excluded_after), *said)
    output.say(criteria)
    output.say("")
    output.say(arms)
    for sentence in found.post_hoc:
        output.say(f"post hoc: {sentence}")


def _tell_post_hoc(output: Output, study: "Study", rehearsal: str | None) -> None:
    from crowd_imi.harvester.what_if import post_hoc
    from crowd_imi.publisher.lock import load_lock

    lock = load_lock(study) if rehearsal is None else None
    for sentence in post_hoc(study.file.exclusion, None if lock is None else lock.exclusion):
        output.say(f"post hoc: {sentence}; reports say so")


class _Narrator:
    """Says what rounds did, and what a person has to do about it.

    Args:
        output: is told.
        study: whose rounds.
        run: the study's folder, or a rehearsal's.
    """

    def __init__(self, output: Output, study: "Study", run: Path) -> None:
        self._output, self._study, self._run = output, study, run
        self._first = True
        self._named: set[str] = set()

    def say(self, text: str) -> None:
        self._output.say(f"{time.strftime('%H:%M:%S')}  {text}")

    def tell(self, done: "Harvest") -> None:
        if self._first or not done.quiet or done.refused or done.complete:
            self.say(_sentence(done))
        self._first = False
        for refusal in done.refused:
            self._add(f"refused: {refusal}")
        self._tell_to_compensate(done)
        if done.top_up is not None:
            self._propose(done.top_up)

    def tell_failure(self, error: Exception, wait: float) -> None:
        self.say(f"{error}; next try in {wait:.0f} s")

    def _add(self, text: str) -> None:
        self._output.say(f"          {text}")

    def _tell_to_compensate(self, done: "Harvest") -> None:
        from crowd_imi.errors import command

        for visit in set(done.to_compensate) - self._named:
            again = command("pay", self._study.folder, "--visit", visit)
            self._add(f"visit {visit} finished here and gave the place back there; pay it with: {again}")
        self._named.update(done.to_compensate)

    def _propose(self, proposal: "TopUp") -> None:
        """Write the list that pays the top-up; nothing is sent. A rehearsal's stays with it, and nobody is told to pay it."""
        from crowd_imi.errors import command
        from crowd_imi.files import write_atomically

        path = self._run / "top-up.csv"
        said = "It took longer than we thought: thank you."
        missing = ((visit, f"{amount // 100}.{amount % 100:02d}") for visit, amount in proposal.amounts.items())
        lines = ["visit,amount,reason", *(f"{visit},{amount},{said}" for visit, amount in missing)]
        pay = command("pay", self._study.folder, "--from", path)
        how = f": {pay}" if self._run == self._study.folder else f", as {path} lists"
        try:
            write_atomically(path, "\n".join([*lines, ""]).encode())
        except OSError as error:
            how = f"; the list can't be written ({error}), which the next round tries again"
        self._add(
            f"the median submission is paid {proposal.per_hour} an hour, and {proposal.floor} is the least: no more places "
            f"are offered until {len(proposal.amounts)} people are paid {proposal.together} in all{how}"
        )


def status(folder: StudyFolder, remarks: Remarks = False, rehearsal: Rehearsal = None, as_json: Json = False) -> None:
    """Where everything stands, in one screen."""
    from crowd_imi import harvester
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.cli.status_screen import remarks_screen, screen
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    store, platform = open_run(study, rehearsal)
    if remarks:
        written = harvester.closing_remarks(study, store)
        if not as_json:
            output.console.print(remarks_screen(written), soft_wrap=False)
        output.result(written)
        return
    now = harvester.status(study, store, platform)
    if not as_json:
        output.console.print(screen(now, rehearsal), soft_wrap=False)
    output.result(now)


def _sentence(done: "Harvest") -> str:
    counts = {
        "valid": done.valid,
        "excluded": done.excluded,
        "surplus": done.surplus,
        "paid": done.paid,
        "bonuses by rule": done.bonuses,
        "offered again": done.replaced,
        "returned": done.returned,
        "timed out": done.timed_out,
        "places taken back": done.released,
        "held by the cap": done.held,
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    if done.paid:
        parts.append(f"{done.paid_money} spent")
    if done.short:
        parts.append(f"short: {', '.join(done.short)}")
    text = ", ".join(parts) or "nothing new"
    return f"{text} — complete" if done.complete else text
