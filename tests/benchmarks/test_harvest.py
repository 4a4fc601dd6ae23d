"""The simulated fortnight in small on both stand-ins, with real processes that are killed; the paper's scale in `make soak`."""

from pathlib import Path

import pytest

from benchmarks import harvest, simulated_crowd
from benchmarks.counted_standins import MINUTE, START, Name, standin
from benchmarks.fortnight import Fortnight, mail
from benchmarks.fortnight_study import Size
from benchmarks.published_harvest import compare
from crowd_imi.harvester import status
from crowd_imi.platforms.base import price

SMALL = Size(arms=2, tasks_per_arm=2, round_minutes=480, days=7, kills=0.5)
SCARCE = Size(arms=2, tasks_per_arm=5, round_minutes=480, days=5, kills=0.3)
PAPER = Size(tasks_per_arm=63, kills=0.5)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory):
    return harvest.fortnights(tmp_path_factory.mktemp("fortnight"), SMALL)


@pytest.mark.parametrize("figure", ["short_tasks", "unpaid", "paid_twice", "over_cap"])
def test_nothing_is_lost_and_nothing_is_paid_twice(told, figure: str):
    assert told["figures"][figure] == 0


def test_every_goal_has_its_figure(told):
    assert set(harvest.GOALS) <= set(told["figures"])
    assert told["figures"]["killed"] > 0 and told["figures"]["came"] >= SMALL.tasks * 2


@pytest.mark.parametrize("platform", harvest.PLATFORMS)
def test_events_come_on_each_platform(told, platform: Name):
    events = told["platforms"][platform]["events"]
    # Whoever comes and hands in is told of twice at least; each letter has at most one fate beside being brought.
    assert events["sent"] >= 2 * SMALL.tasks and events["lost"] + events["twice"] + events["late"] <= events["sent"]
    assert events["arrived"] > 0


def test_the_table_names_every_fault(told):
    text = harvest.table(told)
    assert all(f"| {name} |" in text for name in (*harvest.FAULTS.values(), "ours"))


def test_what_ours_made_of_the_responses_is_read_from_its_store(told):
    ours = told["published"]["ours"]
    assert (ours["paid_not_read"], ours["short_tasks"]) == (0, 0)
    # Rounds are eight hours apart, and events are looked at halfway: a response is never read before it came.
    assert 0 < ours["hours_until_read"] < 48


def test_a_cap_that_binds_is_spent_and_never_passed_through_kills_and_faults(tmp_path: Path, monkeypatch):
    for name, value in harvest.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    # Of 11 who are paid about 7 are excluded and have to be replaced; who is late is owed beside who replaced them.
    monkeypatch.setattr(simulated_crowd, "EXCLUDED", 0.6)
    monkeypatch.setattr(simulated_crowd, "LATE", 0.2)
    with standin("prolific", tmp_path / "standin") as platform, mail(platform, tmp_path / "study", SCARCE.seed) as post:
        fortnight = Fortnight(tmp_path / "study", SCARCE, platform, post, cap_share=1.15)
        tally = fortnight.run()
        figures, books = harvest.measure(fortnight), platform.ask("GET", "books")
        now = status(fortnight.study, fortnight.store, fortnight.platform)
    pay = fortnight.study.file.pay
    each = price(fortnight.platform, pay.reward_money).amount
    # 279 cents and a third of that for Prolific; 1.15 × 10 tasks are 11.5 of them.
    assert (each, pay.cap) == (372, 4278)
    assert (figures["over_cap"], figures["paid_twice"]) == (0, 0)
    spent = sum(paid["amount"] + paid["fee"] for paid in books["rewards"])
    assert books["bonuses"] == [] and spent == now.spent.amount
    # What isn't spent is less than a reward, beside what is kept for free places: Prolific takes none back.
    assert 0 <= pay.cap - spent - now.places_free * each < each
    assert now.complete == (now.places_free == 0)  # whoever came would be let in
    # Whoever is owed and isn't paid is told of, at every look.
    assert tally.told is not None
    assert figures["unpaid"] == tally.told.held == now.held.amount / each
    assert tally.told.to_compensate == () and tally.told.refused == ()
    assert figures["unpaid"] == 0 or any("raise pay.cap" in remark for remark in now.remarks)
    # Every task without a valid response is named, and so is the way out.
    short = {f"{task.arm}/{task.number}" for task in now.tasks if task.where == "short"}
    assert set(tally.told.short) == short and len(short) == figures["short_tasks"] > 0
    but = " but who comes to a free place" if now.places_free else ""
    assert any(f"{len(short)} tasks get nobody below the cap{but}: raise pay.cap" in line for line in now.next)


@pytest.mark.soak
@pytest.mark.parametrize("platform", harvest.PLATFORMS)
def test_the_papers_scale_through_a_hundred_kills_on_each_platform(tmp_path: Path, platform: Name):
    told = harvest.fortnights(tmp_path, PAPER, [platform])
    assert told["met"], told["figures"]
    assert told["figures"]["killed"] >= 100


def minutes(*answers: tuple[int, bool]) -> list[tuple[int, bool]]:
    """Responses at minutes after the start."""
    return [(START + minute * MINUTE, good) for minute, good in answers]


def test_the_published_loop_pays_its_last_attempt_and_does_not_read_it():
    # The third response is the last one allowed and the first that passes.
    losses = compare({1: minutes((10, False), (70, False), (130, True))}, Size(round_minutes=60))
    assert (losses["last_attempt"].paid_not_read, losses["last_attempt"].short_tasks) == (1, 1)
    assert (losses["none"].paid_not_read, losses["none"].short_tasks) == (0, 0)
    # Found by the next of the hourly rounds, 50 minutes later each.
    assert losses["none"].hours_until_read == pytest.approx(50 / 60)


def test_a_process_that_forgets_loses_what_it_read():
    losses = compare({task: minutes((10, True)) for task in range(5)} | {9: minutes((60 * 24 * 5, True))}, Size(round_minutes=60))
    assert losses["memory"].posted_again == 5 and losses["memory"].paid_not_read >= 5


def test_failing_calls_make_those_behind_wait():
    many = {task: minutes((10 + task, True)) for task in range(300)}
    losses = compare(many, Size(round_minutes=60))
    assert losses["failing_call"].hours_until_read > 2 * losses["none"].hours_until_read
