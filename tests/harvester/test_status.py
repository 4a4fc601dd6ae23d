from pathlib import Path

import pytest
from rich.console import Console

from crowd_imi.cli.status_screen import screen
from crowd_imi.harvester import ArmStatus, Difference, harvest, status
from tests.harvester.crowd import SMALL, Crowd


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
    assert now.differences == (Difference(visits=1, here="answering", payment="unpaid", there="awaiting_review"),)
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
