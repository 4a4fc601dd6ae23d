import threading
from pathlib import Path

import pytest

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.base import Platform, PostingRequest
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.records import Money


def request(intent: str = "i1", places: int = 2) -> PostingRequest:
    return PostingRequest(
        intent=intent,
        title="Which image fits?",
        description="Look at pictures.",
        arrival_url="http://127.0.0.1:8000/arrive",
        reward=Money(amount=150, currency="USD"),
        places=places,
        minutes=6.0,
        completion_code="CODE",
    )


@pytest.fixture
def platform(tmp_path: Path) -> LocalPlatform:
    return LocalPlatform(tmp_path / "local.db")


def test_the_local_platform_is_a_platform(platform: LocalPlatform):
    _checked_by_mypy: Platform = platform
    assert platform.name == "local"


def test_the_same_intent_posts_once(platform: LocalPlatform):
    posting = platform.post(request())
    assert platform.post(request()) == posting == platform.find("i1")
    assert platform.post(request("i2")) != posting
    assert platform.find("i3") is None


def test_places_are_taken_until_none_is_left(platform: LocalPlatform):
    posting = platform.post(request(places=1))
    first = platform.take(posting, "anna")
    assert platform.take(posting, "anna") == first
    assert platform.open_places() == ()
    with pytest.raises(PlatformError, match="every place is taken"):
        platform.take(posting, "ben")
    platform.set_places(posting, 2)
    assert [place.free for place in platform.open_places()] == [1]
    platform.take(posting, "ben")
    with pytest.raises(PlatformError, match="2 places are taken"):
        platform.set_places(posting, 1)
    assert platform.places(posting) == 2


@pytest.mark.parametrize("leave", [LocalPlatform.give_back, LocalPlatform.release])
def test_leaving_frees_the_place(platform: LocalPlatform, leave):
    posting = platform.post(request(places=1))
    leave(platform, platform.take(posting, "anna").id)
    assert platform.open_places()[0].free == 1
    # Anna's old submission has ended, so she gets a new one.
    again = platform.take(posting, "anna")
    assert [s.status for s in platform.submissions(posting)].count("active") == 1
    assert again.status == "active"


def test_handing_in_needs_the_code_and_may_be_repeated(platform: LocalPlatform):
    posting = platform.post(request())
    submission = platform.take(posting, "anna").id
    with pytest.raises(PlatformError, match="completion code"):
        platform.complete(submission, "cöde")
    for _ in range(2):
        platform.complete(submission, "CODE")
    assert platform.submission(submission).status == "awaiting_review"
    with pytest.raises(PlatformError, match="handed in already"):
        platform.give_back(submission)
    platform.release(submission)
    assert platform.submission(submission).status == "awaiting_review"


def test_approving_pays_once(platform: LocalPlatform):
    posting = platform.post(request())
    submission = platform.take(posting, "anna").id
    for _ in range(3):
        platform.approve(submission)
    assert [(p.submission, p.reward.amount) for p in platform.payments()] == [(submission, 150)]
    platform.complete(submission, "CODE")
    assert platform.submission(submission).status == "approved"


def test_who_gave_the_place_back_cannot_hand_in(platform: LocalPlatform):
    submission = platform.take(platform.post(request()), "anna").id
    platform.give_back(submission)
    with pytest.raises(PlatformError, match="given back"):
        platform.complete(submission, "CODE")


def test_links_carry_the_ids_escaped(platform: LocalPlatform):
    posting = platform.post(request())
    submission = platform.take(posting, "a & b").id
    assert (
        platform.arrival_url_for(submission)
        == f"http://127.0.0.1:8000/arrive?participant=a+%26+b&submission={submission}&posting={posting}"
    )
    with pytest.raises(PlatformError, match="crowd-imi serve"):
        platform.finish(submission, "CODE")
    platform.set_base_url("http://127.0.0.1:9000/")
    assert platform.finish(submission, "CODE").url == f"http://127.0.0.1:9000/complete?submission={submission}&code=CODE"


def test_unknown_ids_are_named(platform: LocalPlatform):
    for call in (platform.submission, platform.approve, platform.release, platform.give_back, platform.arrival_url_for):
        with pytest.raises(PlatformError, match="no submission nobody"):
            call("nobody")
    for call in (platform.places, lambda p: list(platform.submissions(p)), lambda p: platform.take(p, "anna")):
        with pytest.raises(PlatformError, match="no posting nothing"):
            call("nothing")


def test_books_survive_being_opened_again(tmp_path: Path, platform: LocalPlatform):
    submission = platform.take(platform.post(request()), "anna")
    platform.close()
    assert LocalPlatform(tmp_path / "local.db").submission(submission.id) == submission


def test_eight_at_once_get_no_more_than_the_places_there_are(tmp_path: Path, platform: LocalPlatform):
    posting = platform.post(request(places=3))
    taken, refused = [], []

    def arrive(name: str) -> None:
        own = LocalPlatform(tmp_path / "local.db")
        try:
            taken.append(own.take(posting, name).id)
        except PlatformError:
            refused.append(name)
        own.close()

    threads = [threading.Thread(target=arrive, args=(f"p{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 3
    assert len(refused) == 5
