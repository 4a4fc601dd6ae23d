import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from crowd_imi.errors import BadLink, NoPlace, PlatformError
from crowd_imi.platforms.base import BonusOrder, Platform, PostingRequest
from crowd_imi.platforms.link import LinkPlatform
from crowd_imi.records import Money
from crowd_imi.study import LinkSection

KEY = b"the key of this study"
PAGES = "https://pages.example.org"

Open = Callable[..., LinkPlatform]


def request(intent: str = "i1", places: int = 2) -> PostingRequest:
    return PostingRequest(
        intent=intent,
        title="Which image fits?",
        description="Look at pictures.",
        arrival_url=f"{PAGES}/arrive",
        reward=Money(amount=150, currency="USD"),
        places=places,
        minutes=6.0,
        completion_code="C0DE",
    )


def parameters(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def invited(platform: LinkPlatform, posting: str, person: str) -> dict[str, str]:
    """The parameters of a person's link."""
    [invitation] = platform.invite(posting, [person])
    return parameters(invitation.url)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Open]:
    made: list[LinkPlatform] = []

    def make(key: bytes = KEY, **section: object) -> LinkPlatform:
        made.append(LinkPlatform(tmp_path / "link.db", key, LinkSection.model_validate(section), f"{PAGES}/"))
        return made[-1]

    yield make
    for platform in made:
        platform.close()


@pytest.fixture
def platform(make: Open) -> LinkPlatform:
    return make()


def test_the_link_platform_is_a_platform_that_moves_no_money(platform: LinkPlatform):
    _checked_by_mypy: Platform = platform
    assert platform.name == "link"
    assert "no money moves" in platform.account().name
    assert platform.fee(Money(amount=150, currency="USD")).amount == 0


def test_the_same_person_gets_the_same_link(platform: LinkPlatform, make: Open):
    posting = platform.post(request())
    first = platform.invite(posting, ["anna@example.org", "ben"])
    assert first == make().invite(posting, ["anna@example.org", "ben"])
    assert first[0].id != first[1].id
    assert first[0].url.startswith(f"{PAGES}/join?invitation=")


def test_nothing_of_the_person_is_in_the_link_or_in_the_books(platform: LinkPlatform, tmp_path: Path):
    posting = platform.post(request())
    query = invited(platform, posting, "anna@example.org")
    content = platform._invitations.loads(query["invitation"])
    assert content[0] == posting
    assert len(content[1]) == 16 and set(content[1]) <= set("0123456789abcdef")
    platform.arrive(query)
    platform.close()
    assert all(b"anna" not in path.read_bytes() for path in tmp_path.iterdir())


def test_an_invitation_holds_for_one_place(platform: LinkPlatform, make: Open):
    posting = platform.post(request())
    query = invited(platform, posting, "anna")
    first = platform.arrive(query)
    assert first == platform.arrive(query) == make().arrive(query)
    assert list(platform.submissions(posting)) == [first]


def test_forged_and_changed_links_are_refused(platform: LinkPlatform, make: Open):
    posting = platform.post(request())
    token = invited(platform, posting, "anna")["invitation"]
    elsewhere = make(b"the key of another study")
    forged = (
        "",
        "x",
        token[:-1],
        token + "A",
        f"{'B' if token[0] == 'A' else 'A'}{token[1:]}",
        invited(elsewhere, posting, "anna")["invitation"],
        # Signed by this study, but for something else.
        str(platform._completions.dumps([posting, "0123456789abcdef"])),
        # Signed by this study, but it isn't a pair of strings.
        str(platform._invitations.dumps("x")),
        str(platform._invitations.dumps([posting, 5])),
        str(platform._invitations.dumps(["no posting of ours", "0123456789abcdef"])),
    )
    for bad in forged:
        for ask in (platform.arrive, platform.entry, platform.handed_in):
            with pytest.raises(BadLink):
                ask({"invitation": bad})
    with pytest.raises(BadLink):
        platform.arrive({"participant": "anna"})
    assert list(platform.submissions(posting)) == []


def test_another_postings_invitation_is_for_that_posting(platform: LinkPlatform):
    one, two = platform.post(request("i1")), platform.post(request("i2"))
    first, second = (platform.arrive(invited(platform, posting, "anna")) for posting in (one, two))
    assert (first.posting, second.posting) == (one, two)
    assert first.id != second.id
    # The same participant, so that the study lets her take part once.
    assert first.participant == second.participant


def test_who_comes_too_late_takes_no_place(platform: LinkPlatform):
    posting = platform.post(request(places=1))
    anna, ben = (invited(platform, posting, name) for name in ("anna", "ben"))
    platform.arrive(anna)
    for ask in (platform.entry, platform.arrive):
        with pytest.raises(NoPlace, match="all of its 1 places are taken"):
            ask(ben)
    assert platform.entry(anna) == anna
    platform.set_places(posting, 2)
    assert platform.arrive(ben).status == "active"
    with pytest.raises(PlatformError, match="2 places are taken"):
        platform.set_places(posting, 1)


def test_a_paused_posting_lets_in_who_has_a_place(platform: LinkPlatform):
    posting = platform.post(request())
    anna, ben = (invited(platform, posting, name) for name in ("anna", "ben"))
    before = platform.arrive(anna)
    platform.pause(posting)
    assert platform.arrive(anna) == before
    with pytest.raises(NoPlace, match="paused"):
        platform.arrive(ben)
    platform.resume(posting)
    platform.arrive(ben)
    platform.stop(posting)
    with pytest.raises(PlatformError, match="for good"):
        platform.resume(posting)


def test_who_was_turned_away_takes_a_place_again_under_the_same_submission(platform: LinkPlatform):
    posting = platform.post(request(places=1))
    anna, ben = (invited(platform, posting, name) for name in ("anna", "ben"))
    submission = platform.arrive(anna).id
    platform.release(submission)
    assert platform.submission(submission).status == "timed_out"
    other = platform.arrive(ben).id
    with pytest.raises(NoPlace):
        platform.arrive(anna)
    platform.give_back(other)
    assert (platform.arrive(anna).id, platform.arrive(anna).status) == (submission, "active")


@pytest.mark.parametrize("section", [{}, {"return_url": "https://pool.example.org/credit"}])
def test_handing_in_is_done_once(make: Open, section: dict[str, str]):
    platform = make(**section)
    posting = platform.post(request())
    query = invited(platform, posting, "anna")
    submission = platform.arrive(query).id
    assert platform.handed_in(query) is None
    first = platform.finish(submission, "C0DE")
    assert platform.finish(submission, "C0DE") == first
    assert platform.finish_url(submission) == first.url
    assert platform.handed_in(query) == submission
    assert platform.arrive(query).status == "awaiting_review"
    platform.approve(submission)
    platform.finish(submission, "C0DE")
    assert platform.submission(submission).status == "approved"
    with pytest.raises(PlatformError, match="handed in already"):
        platform.give_back(submission)


def test_late_work_is_handed_in(platform: LinkPlatform):
    posting = platform.post(request())
    submission = platform.arrive(invited(platform, posting, "anna")).id
    platform.release(submission)
    platform.finish(submission, "C0DE")
    assert platform.submission(submission).status == "awaiting_review"


@pytest.mark.parametrize(
    ("return_url", "before", "fragment"),
    [
        ("https://pool.example.org/credit", {}, ""),
        ("https://pool.example.org/credit?experiment=7&empty=", {"experiment": ["7"], "empty": [""]}, ""),
        ("https://pool.example.org/#/credit", {}, "/credit"),
        ("https://pool.example.org/a?q=%26x%3D1#end", {"q": ["&x=1"]}, "end"),
    ],
)
def test_a_return_url_gets_code_and_participant_beside_its_own_query(
    make: Open, return_url: str, before: dict[str, list[str]], fragment: str
):
    platform = make(return_url=return_url)
    posting = platform.post(request())
    [invitation] = platform.invite(posting, ["anna"])
    finish = platform.finish(platform.arrive(parameters(invitation.url)).id, "A&B=C")
    parts = urlsplit(finish.url)
    assert finish.form is None
    assert parts.fragment == fragment
    assert parse_qs(parts.query, keep_blank_values=True) == {**before, "code": ["A&B=C"], "participant": [invitation.id]}


def test_the_last_page_knows_who_handed_in_and_nobody_else(platform: LinkPlatform, make: Open):
    posting = platform.post(request())
    [invitation] = platform.invite(posting, ["anna"])
    submission = platform.arrive(parameters(invitation.url)).id
    for bad in ("", "x", str(platform._completions.dumps(submission)), str(make(b"another key")._completions.dumps(submission))):
        with pytest.raises(BadLink):
            platform.completion(bad)
    token = parameters(platform.finish(submission, "C0DE").url)["token"]
    completion = platform.completion(token)
    assert (completion.code, completion.participant) == ("C0DE", invitation.id)


def test_an_open_link_is_there_when_the_study_has_one(make: Open):
    closed, opened = make(), make(open=True)
    posting = opened.post(request(places=3))
    assert closed.open_link(posting) is None
    url = opened.open_link(posting)
    assert url is not None and url.startswith(f"{PAGES}/join?open=")
    first, second = (opened.entry(parameters(url)) for _ in range(2))
    anna = opened.arrive(first)
    assert anna == opened.arrive(first)  # a reload
    assert opened.arrive(second).id != anna.id  # somebody else, or the same person once more: nobody can tell
    # An invitation works beside it, and nobody chooses its id as a visitor.
    [invitation] = opened.invite(posting, ["anna"])
    assert opened.arrive({**parameters(url), "visitor": invitation.id}).participant != invitation.id
    with pytest.raises(NoPlace):
        opened.entry(parameters(url))
    for bad in ({}, {"visitor": ""}, {"visitor": "x" * 16}, {"visitor": "0" * 17}):
        with pytest.raises(BadLink):
            opened.arrive({**parameters(url), **bad})
    with pytest.raises(BadLink):
        closed.arrive(first)
    with pytest.raises(BadLink):
        opened.arrive({"open": "forged", "visitor": "0" * 16})


@pytest.mark.parametrize("open_link", [False, True])
def test_a_hundred_at_once_get_no_more_than_the_places_there_are(make: Open, open_link: bool):
    first, second = make(open=open_link), make(open=open_link)
    posting = first.post(request(places=7))
    if open_link:
        url = first.open_link(posting)
        assert url is not None
        queries = [first.entry(parameters(url)) for _ in range(100)]
    else:
        queries = [invited(first, posting, f"person {number}") for number in range(100)]
    came: list[str] = []
    refused: list[str] = []

    def arrive(number: int) -> None:
        try:
            came.append((first, second)[number % 2].arrive(queries[number]).id)
        except NoPlace as error:
            refused.append(str(error))

    threads = [threading.Thread(target=arrive, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(came)) == 7 and len(refused) == 93
    assert len(list(first.submissions(posting))) == 7


def test_one_person_at_twenty_doors_takes_one_place(make: Open):
    first, second = make(), make()
    posting = first.post(request(places=2))
    query = invited(first, posting, "anna")
    came: list[str] = []
    threads = [
        threading.Thread(target=lambda platform=platform: came.append(platform.arrive(query).id))
        for platform in (first, second) * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(came) == 20 and len(set(came)) == 1
    assert len(list(first.submissions(posting))) == 1


def test_the_books_say_whom_the_lab_owes_what(platform: LinkPlatform):
    posting = platform.post(request(places=3))
    people = platform.invite(posting, ["anna", "ben", "cem", "never came"])
    anna, ben, _cem = (platform.arrive(parameters(person.url)).id for person in people[:3])
    platform.finish(anna, "C0DE")
    platform.approve(anna)
    for key, amount in (("b1", 25), ("b2", 50), ("b2", 50)):
        order = BonusOrder(submission=anna, money=Money(amount=amount, currency="USD"), key=key, reason="Thank you.")
        platform.send_bonuses([order], lambda _: None)
    platform.finish(ben, "C0DE")
    standings = platform.standings(posting)
    assert {person.id: (standings[person.id].status, standings[person.id].to_pay.amount) for person in people[:3]} == {
        # 150 for the reward, 25 + 50 for two bonuses: the one that was sent twice counts once.
        people[0].id: ("approved", 225),
        people[1].id: ("awaiting_review", 0),
        people[2].id: ("active", 0),
    }
    assert people[3].id not in standings
