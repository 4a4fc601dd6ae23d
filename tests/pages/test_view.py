"""What the browser gets to know: nothing that tells an answer."""

import re

from crowd_imi.pages.layout import main_upper, practice_order, practice_upper
from crowd_imi.pages.texts import load_texts
from tests.pages.visitor import RIGHT, WRONG
from tests.tiny import fake_plan

TELLING = re.compile(r"kind|unit|null|\bmin|max|catch|batch|correct_|layer|toy|seed|difficult|easy|arm", re.IGNORECASE)


def words_of(document):
    """Every key and every text of a JSON document."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from words_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from words_of(value)
    elif isinstance(document, str):
        yield document


def test_no_word_of_the_document_tells_anything(run):
    visitor = run.visitor("ann")
    for view in (visitor.view(), visitor.begin_trials(), visitor.answer_all()):
        words = set(words_of({key: value for key, value in view.items() if key != "texts"}))
        telling = {word for word in words if TELLING.search(word) and not word.startswith("/sprites/")}
        assert telling == set()


def test_main_and_catch_trials_have_the_same_shape(run):
    view = run.visitor("ann").view()
    assert len(view["main"]) == view["trials"] == 8  # 6 main and 2 catch trials
    assert {tuple(sorted(trial)) for trial in view["main"]} == {("left", "lower", "position", "right", "sprite", "upper")}
    assert [trial["position"] for trial in view["main"]] == list(range(8))
    for trial in [*view["main"], *view["practice"]["trials"]]:
        assert trial["left"] == list(range(9))
        assert trial["right"] == list(range(9, 18))
        assert {trial["upper"], trial["lower"]} == {RIGHT, WRONG}
        assert re.fullmatch(r"/sprites/[0-9a-f]{32}\.avif", trial["sprite"])


def test_reloading_shows_the_same_layout(run):
    visitor = run.visitor("ann")
    assert visitor.view() == visitor.view()


def test_the_upper_query_is_a_coin_toss_within_a_visit_and_across_visits():
    # 2,000 fair tosses: 1,000 on average, a standard deviation of √2000/2 = 22.4; three of them are 67.
    within = sum(main_upper(5, position) == "max" for position in range(2000))
    across = sum(main_upper(seed, 3) == "max" for seed in range(2000))
    practice = sum(practice_upper(seed, 1, 0) == "max" for seed in range(2000))
    assert all(abs(count - 1000) <= 67 for count in (within, across, practice))


def test_practice_blocks_come_in_different_orders_with_all_trials():
    orders = [practice_order(11, block, 5) for block in range(1, 7)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(orders)) > 1


def test_the_document_says_where_the_visit_stands(run):
    visitor = run.visitor("ann")
    view = visitor.view()
    assert (view["step"], view["answered"], view["correct"], view["completion"]) == ("consent", 0, 0, None)
    assert view["condition"] in ("natural", "synthetic")
    assert view["grid"] == {"columns": 5, "rows": 4, "tile": 32, "gutter": 8}
    assert view["timing"] == {"unlock_ms": 1500, "verdict_ms": 350, "feedback_ms": 1150}
    assert (view["practice"]["block"], view["practice"]["position"]) == (1, 0)
    view = visitor.begin_trials()
    assert (view["step"], view["practice"]) == ("main", None)
    visitor.answer(0, "upper")
    assert visitor.view()["answered"] == 1
    assert visitor.answer_all()["step"] == "feedback"


def test_the_texts_have_the_studys_facts_filled_in(run):
    fake_plan(run.study)
    texts = load_texts(run.study)
    everything = " ".join(words_of(texts))
    for fact in ("lab@example.org", "The lab", "The institute", "A tiny study", "1.50 USD"):
        assert fact in everything
    assert re.search(r"[{}]", everything) is None
