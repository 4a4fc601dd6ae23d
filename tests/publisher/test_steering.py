"""Pausing, resuming and stopping, and what harvests do meanwhile."""

import pytest
from rich.console import Console

from crowd_imi.cli.status_screen import screen
from crowd_imi.errors import PlatformError, PublishError
from crowd_imi.harvester import harvest, status
from crowd_imi.platforms.base import Capability, PostingState
from crowd_imi.publisher.steering import steer
from crowd_imi.store.postings import note_state
from tests.harvester.crowd import Crowd


@pytest.fixture
def crowd(tmp_path) -> Crowd:
    return Crowd.posted(tmp_path)


def shown(crowd: Crowd) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(screen(status(crowd.study, crowd.store, crowd.platform), None))
    return capture.get()


def go(crowd: Crowd, state: PostingState) -> bool:
    return steer(crowd.study, crowd.store, crowd.platform, state)


def test_nobody_new_while_it_is_paused_and_those_under_way_finish(crowd: Crowd):
    visit = crowd.arrive("anna")
    assert go(crowd, PostingState.PAUSED)
    assert not go(crowd, PostingState.PAUSED)
    assert crowd.free() == 0
    with pytest.raises(PlatformError, match="takes nobody new"):
        crowd.take("ben")
    crowd.begin(visit)
    crowd.submit(visit)
    crowd.hand_in("anna")
    done = harvest(crowd.study, crowd.store, crowd.platform)
    assert (done.valid, done.paid, done.complete) == (1, 1, False)
    assert go(crowd, PostingState.OPEN)
    assert crowd.take("ben")


def test_a_stopped_study_is_complete_once_nobody_is_at_it_and_offers_no_more(crowd: Crowd):
    visit = crowd.arrive("anna")
    go(crowd, PostingState.STOPPED)
    assert not harvest(crowd.study, crowd.store, crowd.platform).complete
    crowd.begin(visit)
    crowd.submit(visit, good=False)
    crowd.hand_in("anna")
    before = crowd.platform.places(crowd.posting.platform_id)
    done = harvest(crowd.study, crowd.store, crowd.platform)
    assert (done.excluded, done.paid, done.complete) == (1, 1, True)
    assert crowd.platform.places(crowd.posting.platform_id) == before
    with pytest.raises(PublishError, match="for good"):
        go(crowd, PostingState.OPEN)


def test_a_platform_that_cannot_pause_says_so_before_anything_happens(crowd: Crowd):
    crowd.platform.capabilities = frozenset(Capability) - {Capability.PAUSE}
    with pytest.raises(PlatformError, match="can't pause"):
        go(crowd, PostingState.PAUSED)
    assert crowd.free() == 4
    assert go(crowd, PostingState.STOPPED)


def test_what_was_paused_on_the_platforms_own_pages_is_noticed_and_offers_no_more(crowd: Crowd):
    crowd.take_part("anna", good=False)
    crowd.platform.pause(crowd.posting.platform_id)
    places = crowd.platform.places(crowd.posting.platform_id)
    harvest(crowd.study, crowd.store, crowd.platform)
    assert crowd.platform.places(crowd.posting.platform_id) == places
    crowd.platform.resume(crowd.posting.platform_id)
    harvest(crowd.study, crowd.store, crowd.platform)
    assert crowd.platform.places(crowd.posting.platform_id) == places + 1


def test_a_full_study_that_we_stopped_stays_stopped(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    go(crowd, PostingState.STOPPED)
    monkeypatch.setattr(crowd.platform, "state", lambda posting: PostingState.OPEN)  # as Prolific says of a full one
    with pytest.raises(PublishError, match="for good"):
        go(crowd, PostingState.OPEN)
    assert harvest(crowd.study, crowd.store, crowd.platform).complete


def test_a_study_that_the_platform_called_stopped_for_a_moment_goes_on(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    crowd.take_part("anna", good=False)
    offered = crowd.platform.places(crowd.posting.platform_id)
    with monkeypatch.context() as patch:  # as Prolific's full study whose last place is just being given back
        patch.setattr(crowd.platform, "state", lambda posting: PostingState.STOPPED)
        assert [harvest(crowd.study, crowd.store, crowd.platform).complete for _ in range(2)] == [False, True]
        assert status(crowd.study, crowd.store, crowd.platform).state is PostingState.STOPPED
        with pytest.raises(PublishError, match="for good"):
            go(crowd, PostingState.OPEN)
    assert status(crowd.study, crowd.store, crowd.platform).state is PostingState.OPEN
    assert not harvest(crowd.study, crowd.store, crowd.platform).complete
    assert crowd.platform.places(crowd.posting.platform_id) == offered + 1


def test_a_study_that_was_stopped_there_and_then_here_stays_stopped(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    crowd.platform.stop(crowd.posting.platform_id)
    harvest(crowd.study, crowd.store, crowd.platform)
    assert not go(crowd, PostingState.STOPPED)
    with crowd.store.write() as session:  # by a harvest that had asked the platform before
        note_state(session, crowd.posting.id, "stopped", by_the_platform=True)
    monkeypatch.setattr(crowd.platform, "state", lambda posting: PostingState.OPEN)
    assert harvest(crowd.study, crowd.store, crowd.platform).complete


def test_status_of_a_stopped_study_says_who_may_finish_and_waits_for_nobody_to_come(crowd: Crowd):
    visit = crowd.arrive("anna")
    go(crowd, PostingState.STOPPED)
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.state is PostingState.STOPPED and not now.complete
    assert now.next == (
        "stopped: nobody new comes, 1 at it may finish, and harvests judge and pay them; 0 of 4 tasks have their valid response",
    )
    assert "stopped; those at it may finish" in shown(crowd) and "4 offered, 3 not in use" in shown(crowd)
    crowd.begin(visit)
    crowd.submit(visit)
    crowd.hand_in("anna")
    assert status(crowd.study, crowd.store, crowd.platform).next == (
        "the next harvest judges 1 and pays 1",
        "stopped: nobody new comes, nobody is at it; 0 of 4 tasks have their valid response",
    )
    harvest(crowd.study, crowd.store, crowd.platform)
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.next == ("nothing more: it was stopped; 1 of 4 tasks have their valid response",)
    assert now.complete and "waiting" not in shown(crowd).split("Next")[1]


def test_a_stopped_study_is_not_complete_while_somebody_waits_for_a_verdict_and_pay(crowd: Crowd):
    visit = crowd.arrive("anna")
    go(crowd, PostingState.STOPPED)
    crowd.fail_practice(visit)
    now = status(crowd.study, crowd.store, crowd.platform)
    assert not now.complete
    assert now.next == (
        "the next harvest judges 1 and pays 1",
        "stopped: nobody new comes, nobody is at it; 0 of 4 tasks have their valid response",
    )
    done = harvest(crowd.study, crowd.store, crowd.platform)
    assert (done.excluded, done.paid, done.complete) == (1, 1, True)
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.complete and now.next == ("nothing more: it was stopped; 0 of 4 tasks have their valid response",)


def test_status_of_a_paused_study_says_how_it_goes_on(crowd: Crowd):
    crowd.arrive("anna")
    go(crowd, PostingState.PAUSED)
    [step] = status(crowd.study, crowd.store, crowd.platform).next
    assert step.startswith("paused: nobody new is let in, 1 at it may finish; `crowd-imi resume`")
    assert "paused" in shown(crowd).splitlines()[0] and "while it is paused" in shown(crowd)
    go(crowd, PostingState.OPEN)
    assert status(crowd.study, crowd.store, crowd.platform).next == ("waiting for 3 to come and 1 at it",)
