"""A simulated fortnight of harvesting through everything that goes wrong: ``python -m benchmarks.harvest``.

On each stand-in a study of 23 arms is posted with ``max_attempts = 10``. Of those who come 25 % of the finished fail a
criterion, 10 % give the place back, 5 % leave without a word, 3 % finish up to a day late, and one arrival in twenty is somebody
who was here before. 7 % of the requests to the platform are throttled, fail, or are cut off before or after they were carried
out. The platform tells what happens (Prolific by webhooks to the pages' endpoint, Mechanical Turk by an SQS queue): of its
events 10 % are lost, 10 % come twice, and 20 % late and out of order. The harvester reads everything each simulated hour and
looks at events halfway between; a third of its rounds end with SIGKILL, after which a new process begins anew, and sometimes two
are started at once.

Figures, over both platforms
    short_tasks     tasks without a valid response at the end
    unpaid          participants who are owed their reward, judged or not, and it isn't in the platform's own books
    paid_twice      rewards in the platform's books beyond the first of a submission
    over_cap        cents that the platform's books say were spent beyond the cap
    calls_ratio     requests that the platform counted over (rewards + more places + places asked back + what reading the
                    posting's state, its places and all pages of submissions takes × rounds), where it is worse; reading
                    what events told of isn't among what it is divided by
    calls_over_lists  the same without the posting's state and places in what it is divided by; for comparison, not judged
    killed          harvesters that SIGKILL ended, with a goal so that there are enough of them
    surplus         submissions that came when their task had its valid response: paid, and listed
    rounds, came    rounds of harvesting, and people who were let in

Without ``--tasks`` each arm has 6 tasks (138 on each stand-in), so that it ends within ten minutes; ``--tasks 63`` is the
paper's scale (23 arms × 63 tasks = 1,449), as `make soak` runs it. Both stand-ins are worked on at once. Beside the figures
stands what the published loop's known faults lose on the same responses (``benchmarks.published_harvest``).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import func, select

from benchmarks.counted_standins import Name, standin
from benchmarks.document import document
from benchmarks.fortnight import Fortnight, mail
from benchmarks.fortnight_study import Size
from benchmarks.published_harvest import FAULTS, OURS, Loss, compare
from crowd_imi.harvester import status
from crowd_imi.lifecycle import OWED
from crowd_imi.store.money import all_intents
from crowd_imi.store.submissions import judged_visits, submission_ids, visits_of
from crowd_imi.store.tables import Notice

GOALS: dict[str, dict[str, float]] = {
    "short_tasks": {"at_most": 0},
    "unpaid": {"at_most": 0},
    "paid_twice": {"at_most": 0},
    "over_cap": {"at_most": 0},
    "calls_ratio": {"at_most": 1.5},
    "killed": {"at_least": 100},
}
Responses = dict[int, list[tuple[int, bool]]]
"""Task → (simulated time, passes the criteria) of each response."""
PACKAGES = ("crowd-imi", "boto3", "requests", "sqlalchemy", "tenacity")
PLATFORMS: tuple[Name, ...] = ("prolific", "mturk")
BESIDE_LISTS: dict[Name, int] = {"prolific": 2, "mturk": 1}
"""Requests of a round that read the posting's state and its places."""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAFORBENCHMARKS000",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-benchmark",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
    "CROWD_IMI_LAB_KEY": "a key for benchmarks",
}


def main() -> int:
    """Run, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--tasks", type=int, default=Size().tasks_per_arm, help="tasks of each of the 23 arms")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = fortnights(Path(folder), Size(tasks_per_arm=options.tasks, seed=options.seed))
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else table(told))
    return 0 if told["met"] else 1


def fortnights(folder: Path, size: Size, platforms: Sequence[Name] = PLATFORMS) -> dict[str, Any]:
    """All platforms side by side, with their books under ``folder``."""
    figures: dict[str, float] = dict.fromkeys(("short_tasks", "unpaid", "paid_twice", "over_cap", "calls_ratio"), 0)
    details: dict[str, Any] = {}
    losses: dict[str, Loss] = {}
    with patch.dict(os.environ, ENVIRONMENT), ProcessPoolExecutor(len(platforms), get_context("fork")) as pool:
        begun = {name: pool.submit(_fortnight, folder / name, size, name) for name in platforms}
        for name, one in begun.items():
            found, details[name], responses, ours = one.result()
            for figure, value in found.items():
                figures[figure] = (
                    max(figures.get(figure, 0), value) if figure.startswith("calls_") else figures.get(figure, 0) + value
                )
            losses = losses or {**compare(responses, size), OURS: ours}
    lost = {fault: asdict(loss) for fault, loss in losses.items()}
    return document(figures, GOALS, PACKAGES, size={**asdict(size), "tasks": size.tasks}, platforms=details, published=lost)


def _fortnight(folder: Path, size: Size, name: Name) -> tuple[dict[str, float], dict[str, Any], Responses, Loss]:
    """One platform's figures, what else happened, the responses that came, and what was made of them."""
    study, begun = folder / "study", time.monotonic()
    with standin(name, folder / "standin") as platform, mail(platform, study, size.seed) as post:
        fortnight = Fortnight(study, size, platform, post)
        fortnight.run()
        found, told, ours = measure(fortnight), told_of(fortnight), loss_of(fortnight)
        events = {**post.counts, "arrived": events_that_arrived(fortnight)}
    seconds = round(time.monotonic() - begun, 1)
    return found, {"figures": found, "events": events, "seconds": seconds, **told}, fortnight.crowd.told.responses, ours


def loss_of(fortnight: Fortnight) -> Loss:
    """What our harvester made of the responses, by its store and the platform's books."""
    now = status(fortnight.study, fortnight.store, fortnight.platform)
    with fortnight.store.people() as people:
        visit_of = {submission: visit for visit, submission in submission_ids(people, fortnight.standin.name).items()}
    with fortnight.store.read() as session:
        read = {visit.id: (visit, verdict) for _, visit, verdict in judged_visits(session)}
    paid = {visit_of.get(one["submission"]) for one in fortnight.standin.ask("GET", "books")["rewards"]}
    waits = [verdict.at - visit.submitted_at for visit, verdict in read.values() if visit.submitted_at is not None]
    return Loss(
        paid_not_read=len(paid - read.keys()),
        posted_again=len(now.surplus),
        short_tasks=sum(arm.tasks - arm.valid for arm in now.arms),
        hours_until_read=sum(waits) / len(waits) / 3_600_000 if waits else 0.0,
    )


def told_of(fortnight: Fortnight) -> dict[str, Any]:
    """What happened, for the document."""
    tally = fortnight.tally
    return {
        "endings": dict(sorted(fortnight.crowd.told.endings.items())),
        "failures": dict(sorted(tally.failures.items())),
        "complete_after_days": tally.complete_after_days,
        "busy": tally.busy,
        "looks": tally.looks,
    }


def events_that_arrived(fortnight: Fortnight) -> int:
    """Different events in the study's store; those that were looked at days ago are deleted there."""
    with fortnight.store.read() as session:
        return session.scalar(select(func.count()).select_from(Notice)) or 0


def measure(fortnight: Fortnight) -> dict[str, float]:
    """What the platform's own books say at the end, beside ours."""
    now = status(fortnight.study, fortnight.store, fortnight.platform)
    books = fortnight.standin.ask("GET", "books")
    rewards = Counter(paid["submission"] for paid in books["rewards"])
    spent = sum(paid["amount"] + paid["fee"] for paid in (*books["rewards"], *books["bonuses"]))
    with fortnight.store.people() as people:
        submissions = submission_ids(people, fortnight.standin.name)
    with fortnight.store.read() as session:
        visits = visits_of(session, fortnight.posting.id)
    owed = [visit for visit in visits if visit.state in OWED]
    unpaid = [
        visit for visit in owed if not rewards[submissions[visit.id]] and _could_be_paid(fortnight, books, submissions[visit.id])
    ]
    changes = len(books["rewards"]) + _raises(fortnight) + _asked_back(books)
    lists = fortnight.tally.reads - fortnight.tally.rounds * BESIDE_LISTS[fortnight.standin.name]
    return {
        "short_tasks": sum(arm.tasks - arm.valid for arm in now.arms),
        "unpaid": len(unpaid),
        "paid_twice": sum(times - 1 for times in rewards.values()),
        "over_cap": max(0, spent - fortnight.study.file.pay.cap),
        "calls_ratio": fortnight.standin.calls / (changes + fortnight.tally.reads),
        "calls_over_lists": fortnight.standin.calls / (changes + lists),
        "killed": fortnight.tally.killed,
        "surplus": len(now.surplus),
        "rounds": fortnight.tally.rounds,
        "came": fortnight.crowd.told.came,
    }


def _could_be_paid(fortnight: Fortnight, books: Mapping[str, Any], submission: str) -> bool:
    """Mechanical Turk can't pay an assignment that ran out before it was handed in; everywhere else all can be paid."""
    if fortnight.standin.name != "mturk":
        return True
    return next(one["status"] for one in books["assignments"] if one["submission"] == submission) in ("Submitted", "Approved")


def _raises(fortnight: Fortnight) -> int:
    with fortnight.store.read() as session:
        return sum(intent.operation == "places" and intent.state == "done" for intent in all_intents(session))


def _asked_back(books: Mapping[str, Any]) -> int:
    return sum(one.get("return_requested_at") is not None for one in books.get("submissions", ()))


def table(told: dict[str, Any]) -> str:
    """For a person, and for docs/how-to/harvest.md."""
    lines = [f"{name:>14}  {value:10.2f}  {told['goals'].get(name, '')}" for name, value in told["figures"].items()]
    lines += [
        "",
        "| on the same responses | paid, not read | posted again | tasks short | hours until read, mean |",
        "|---|---|---|---|---|",
    ]
    for fault, loss in told["published"].items():
        cells = (loss["paid_not_read"], loss["posted_again"], loss["short_tasks"], f"{loss['hours_until_read']:.1f}")
        lines.append(f"| {FAULTS.get(fault, fault)} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", "goals met" if told["met"] else "a goal isn't met", ""])


if __name__ == "__main__":
    sys.exit(main())
