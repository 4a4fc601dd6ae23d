from pathlib import Path

import pytest
from rich.console import Console

from crowd_imi.cli.status_screen import remarks_screen, screen
from crowd_imi.harvester import ArmStatus, Difference, closing_remarks, harvest, status
from crowd_imi.pages.dashboard import take_snapshot
from crowd_imi.platforms.base import PlatformSubmission
from crowd_imi.store.tables import Visit
from tests.harvester.crowd import SMALL, Crowd


def test_status_and_dashboard_say_of_who_may_still_be_paid_what_the_harvest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 600"))
    crowd.begin(crowd.arrive("anna"))
    anna, listed = crowd.submission_of("anna"), crowd.platform.submissions

    def submissions(posting: str) -> list[PlatformSubmission]:
        return [s.model_copy(update={"status": "PROCESSING"}) if s.id == anna else s for s in listed(posting)]

    monkeypatch.setattr(crowd.platform, "submissions", submissions)  # a status that nobody has heard of
    crowd.pass_time(121)
    for name in ("ben", "carl", "dora"):
        crowd.take_part(name)
    done = harvest(crowd.study, crowd.store, crowd.platform)
    assert (done.complete, len(done.short)) == (True, 1)
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.complete and (sum(arm.open for arm in now.arms), sum(arm.short for arm in now.arms)) == (0, 1)
    shown = take_snapshot(crowd.study, crowd.store, crowd.clock.now())
    assert shown.complete and sum(arm.status.short for arm in shown.arms) == 1


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 900"))


def test_every_task_is_in_one_place(crowd: Crowd):
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    harvest(crowd.study, crowd.store, crowd.platform)
    crowd.begin(crowd.arrive("carl"))
    crowd.take_part("dora")
    now = status(crowd.study, crowd.store, crowd.platform)
    total = {name: sum(getattr(arm, name) for arm in now.arms) for name in ArmStatus.model_fields if name != "arm"}
    assert total == {"tasks": 4, "valid": 1, "submitted": 1, "under_way": 1, "open": 1, "short": 0, "excluded": 1}
    assert now.excluded_by == {"catch_trials": 1}
    # Anna and Ben are paid; Carl and Dora are owed; a fifth place is free.
    assert (now.spent.amount, now.committed.amount, now.cap.amount) == (300, 600, 900)
    assert (now.places, now.places_free) == (5, 1)
    assert now.posted and not now.complete and now.differences == () and now.remarks == ()


def test_differences_are_shown(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.hand_in("anna")
    crowd.take("stray")
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.differences == (
        Difference(visits=1, which=(visit.id,), here="answering", payment="unpaid", there="awaiting_review"),
    )
    assert now.strays == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits(crowd: Crowd, width: int):
    crowd.take_part("anna")
    harvest(crowd.study, crowd.store, crowd.platform)
    crowd.arrive("ben")
    crowd.hand_in("ben")
    console = Console(width=width)
    with console.capture() as capture:
        console.print(screen(status(crowd.study, crowd.store, crowd.platform), "first"))
    lines = capture.get().splitlines()
    assert len(lines) <= 24 and all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "toy-synthetic-easy" in text and "rehearsal first" in text
    assert "1 visit is arrived and unpaid here, but awaiting review on local" in text


def test_what_participants_wrote_is_shown_without_who_they_are_and_cannot_steer_the_terminal(crowd: Crowd):
    texts = {"anna": "Row two\nwas hard [red]!", "ben": "hi \x1b]0;owned\x07\x1b[2J\u202eevil", "carl": None}
    for name, text in texts.items():
        visit = crowd.take_part(name, good=name != "ben")
        with crowd.store.write() as session:
            session.get_one(Visit, visit.id).feedback = text
    harvest(crowd.study, crowd.store, crowd.platform)
    written = closing_remarks(crowd.study, crowd.store)
    assert [(one.text, one.label, one.state) for one in written.remarks] == [
        (texts["anna"], "main", "valid"),
        (texts["ben"], "main", "excluded"),
    ]
    assert status(crowd.study, crowd.store, crowd.platform).closing_remarks == 2
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(remarks_screen(written))
    shown = capture.get()
    assert "Row two" in shown and "was hard [red]!" in shown and "owned" in shown
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert not any(name in shown for name in texts) and "anna" not in str(written)
    with console.capture() as capture:
        console.print(screen(status(crowd.study, crowd.store, crowd.platform), "first"))
    assert "status STUDY --rehearsal first --remarks" in " ".join(capture.get().split())


def many_arms(folder: Path, count: int) -> Crowd:
    """As many arms as the paper has, with names about as long."""
    head, _, rest = SMALL.partition("[models.toy]")
    names = [f"wide_resnet50_{number}" for number in range(count)]
    models = "".join(f'[models.{name}]\nsource = "timm:resnet10t"\nlayers = ["layer*"]\n\n' for name in names)
    arms = "".join(f'[[arms]]\nmodel = "{name}"\ncondition = "synthetic"\nunits = 6\nresponses = 1\n\n' for name in names)
    return Crowd.posted(folder, head + models + arms + rest[rest.index("[panels]") :])


def test_twenty_three_arms_are_one_screen_with_a_line_each(tmp_path: Path):
    crowd = many_arms(tmp_path, 23)
    crowd.take_part("anna")
    crowd.decline(crowd.arrive("ben"))
    crowd.fail_practice(crowd.arrive("carl"))
    harvest(crowd.study, crowd.store, crowd.platform)
    crowd.begin(crowd.arrive("dora"))
    crowd.hand_in("dora")
    for stray in ("emil", "fay"):
        crowd.take(stray)
    crowd.hand_in("emil")
    refused = tuple(f"refusal {number}" for number in range(20))
    now = status(crowd.study, crowd.store, crowd.platform).model_copy(update={"remarks": refused})
    shown = {}
    for width in (80, 120):
        console = Console(width=width)
        with console.capture() as capture:
            console.print(screen(now, None))
        shown[width] = capture.get().splitlines()
        assert len(shown[width]) <= 50 and all(len(line) <= width for line in shown[width])
        assert all(sum(arm.arm in line.split() for line in shown[width]) == 1 for arm in now.arms)
    # Twenty refusals, two kinds of strays and one of differences, of which six are shown.
    assert any("and 17 more: `--json` has everything" in line for line in shown[120])
    everybody = next(line.split() for line in shown[120] if line.startswith("all "))
    assert everybody[-4:] == ["1", "4", "1", "1"]  # one excluded; of four who came one left and one failed the practice
    assert any("1 declined, 1 failed practice" in " ".join(line.split()) for line in shown[80])
