"""Does anything that the browser receives give an answer away? A classifier on all of it but the pictures' content.

What a browser gets over whole visits, every JSON document, header, size, name and waiting time, becomes numbers per trial.
Kernel ridge regression, linear and Gaussian, learns from them which trials are catch trials and which query is the right
one, once across visits (tested on visits that it hasn't seen) and once within them (tested on trials of visits whose other
trials it has seen). A permutation test says whether it does better than chance.

The reply to an answer says whether it was right, and that is no leak. So what counts depends on the question:

- Which query is right: the reply to a trial's own answer is left out altogether, with its size and its time, as it tells by
  design. The reply to the answer before is there in time to be used, and counts as below.
- Which trials are catch trials: of the reply to the trial's own answer and of the one before, everything counts (time,
  headers, any field) but the fields in ``TOLD``, and the size is taken without the letters of their values. That an answer
  was right does hint at a catch trial, as these are easy, but only to somebody who looked at the picture. Whoever makes
  visits for this must answer without regard to either secret: then nothing else in a reply can hang on them lawfully.

Not looked at: pages of HTML, which are the same for all trials, and values that speak of several trials at once, other than
lists with one entry per trial.
"""

import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from crowd_imi.rehearsal.records import Secret
from crowd_imi.rehearsal.wire import Reply, Wire

Floats = NDArray[np.float64]
How = Literal["across", "within"]
Clues = dict[str, float]
"""What is looked at → its value. What one trial has and another hasn't is 0 there."""

FOLDS = 5
RIDGE = 1.0
PERMUTATIONS = 1199
LETTERS = 40
"""Letters of a name or a header's value that are looked at one by one, from the beginning; the last ones besides."""
LAST_LETTERS = 4
TOLD = ("correct", "correct_count")
"""Fields of the reply to an answer that say whether it was right."""
RANKED = (" bytes", " seconds", " number")
"""Endings of clues that are compared with the visit's other trials as well: one late reply mustn't hide the others."""


@dataclass(frozen=True, slots=True)
class Received:
    """What one visit's browser received."""

    views: Sequence[Reply]
    """``GET /api/visit``, as often as it was asked for."""
    sprites: Mapping[str, Reply]
    """By address, as the document names them."""
    answers: Sequence[Reply]
    """``POST /api/answers``, one per trial in order."""
    others: Sequence[Reply] = ()
    """Of the rest of ``/api/``: consent, instructions, practice, submission."""


@dataclass(slots=True)
class Overhearing:
    """A wire that keeps every reply of the pages to one browser."""

    wire: Wire
    requests: int = 0
    retries: int = 0
    heard: list[tuple[str, Reply]] = field(default_factory=list)
    """Path and reply, in order."""

    def send(
        self, method: str, url: str, headers: dict[str, str], json: object = None, form: Mapping[str, str] | None = None
    ) -> Reply:
        """Pass a request on."""
        reply = self.wire.send(method, url, headers, json, form)
        self.requests += 1
        self.heard.append((urlsplit(url).path, reply))
        return reply

    def received(self) -> Received:
        """All of it, in its places."""
        api = [(path, reply) for path, reply in self.heard if path.startswith("/api/")]
        return Received(
            views=[reply for path, reply in api if path == "/api/visit"],
            sprites={path: reply for path, reply in self.heard if path.startswith("/sprites/")},
            answers=[reply for path, reply in api if path == "/api/answers"],
            others=[reply for path, reply in api if path not in {"/api/visit", "/api/answers"}],
        )


@dataclass(frozen=True, slots=True)
class Found:
    """How well the classifier did."""

    auc: float
    """0.5 is chance."""
    p_value: float
    """Share of permutations of the labels that do at least as well."""


def clues_of(visits: Sequence[Received], secret: Secret) -> tuple[Floats, NDArray[np.int64]]:
    """Everything as numbers that may be used to find out a secret.

    Args:
        visits: whole ones.
        secret: what is looked for; it decides what of the replies to answers counts.

    Returns:
        Clues, shape (n_trials, n_clues), standardised; constant and repeated ones are left out. And which visit each trial is of.
    """
    rows = [_of_visit(visit, secret) for visit in visits]
    visit_of = np.repeat(np.arange(len(rows)), [len(trials) for trials in rows])
    names = sorted({name for trials in rows for trial in trials for name in trial})
    clues = np.array([[trial.get(name, 0.0) for name in names] for trials in rows for trial in trials])
    ranked = clues[:, [name.endswith(RANKED) for name in names]]
    ranks = [rankdata(ranked[visit_of == number], axis=0) / len(trials) for number, trials in enumerate(rows)]
    clues = np.concatenate([clues, np.concatenate(ranks)], axis=1)
    return _standardised(clues), visit_of


def _standardised(clues: Floats) -> Floats:
    """Without constant ones, and one of those that say the same, even the other way round."""
    clues = clues[:, clues.std(axis=0) > 1e-12]
    clues = (clues - clues.mean(axis=0)) / clues.std(axis=0)
    _, news = np.unique(np.round(clues * np.where(clues[0] < 0, -1, 1), 6), axis=1, return_index=True)
    return clues[:, np.sort(news)]


def _of_visit(visit: Received, secret: Secret) -> list[Clues]:
    """One trial's clues after the other."""
    views = [json.loads(view.content) for view in visit.views]
    trials: list[dict[str, Any]] = views[0]["main"]
    lists = list(_lists([{**view, "main": None} for view in views], len(trials), "view"))
    lists += _lists([json.loads(other.content) for other in visit.others if other.content], len(trials), "other")
    answers = [_answer(reply) for reply in visit.answers]
    rows = []
    for at, trial in enumerate(trials):
        row = _document(trial) | _sprite(visit.sprites[trial["sprite"]]) | _beside(trials, at)
        for number, view in enumerate(views[1:], 1):
            row |= _changes(f"view {number}", trial, view["main"][at])
        for name, entries in lists:
            row |= _values(name, entries[at])
        if at > 0:
            row |= {f"before: {name}": value for name, value in answers[at - 1].items()}
        if secret is Secret.KIND:
            row |= answers[at]
        rows.append(row)
    return rows


def _document(trial: Mapping[str, Any]) -> Clues:
    """One trial's JSON: its values, their order and parity, the order of its keys, and its sprite's name."""
    upper, lower = trial["upper"], trial["lower"]
    left, right = trial["left"], trial["right"]
    return {
        **_values("trial", trial, without={"sprite"}),
        **_name(str(trial["sprite"])),
        "trial parity": trial["position"] % 2,
        "trial length": len(json.dumps(trial)),
        "difference": upper - lower,
        "order": float(np.sign(upper - lower)),
        "smaller": min(upper, lower),
        "larger": max(upper, lower),
        "columns": upper % 5 - lower % 5,
        "row": upper // 5,
        "first left": left.index(min(left)),
        "last right": right.index(max(right)),
    }


def _changes(name: str, first: Mapping[str, Any], again: Mapping[str, Any]) -> Clues:
    """What a later document says of a trial that the first one didn't."""
    if first == again:
        return {}
    before, after = (_values(name, trial) for trial in (first, again))
    return {key: after.get(key, 0.0) - before.get(key, 0.0) for key in before | after}


def _values(name: str, value: Any, without: Collection[str] = ()) -> Clues:  # noqa: ANN401 (JSON is any of its types)
    """Whatever stands in a piece of JSON, under whatever keys, and in which order these come."""
    clues: Clues = {f"{name} there": 1.0}
    match value:
        case dict():
            for place, (key, inner) in enumerate(value.items()):
                clues[f"{name}.{key} place"] = float(place)
                if key not in without:
                    clues |= _values(f"{name}.{key}", inner)
        case list():
            clues[f"{name} entries"] = float(len(value))
            for place, inner in enumerate(value):
                clues |= _values(f"{name}.{place}", inner)
        case str():
            clues |= _text(name, value)
        case bool() | int() | float():
            clues[name] = float(value)
        case _:
            clues[f"{name} null"] = 1.0
    return clues


def _lists(documents: Sequence[Any], length: int, name: str) -> Iterator[tuple[str, list[Any]]]:
    """Lists with one entry per trial, wherever they stand in documents; each with its name."""
    for place, document in enumerate(documents):
        yield from _lists_within(document, length, f"{name} {place}")


def _lists_within(value: Any, length: int, name: str) -> Iterator[tuple[str, list[Any]]]:  # noqa: ANN401
    if isinstance(value, list) and len(value) == length:
        yield name, value
    elif isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from _lists_within(each, length, f"{name}.{key}")


@lru_cache(4096)  # most headers say the same every time
def _text(name: str, text: str) -> Mapping[str, float]:
    """Letters, a checksum's bits, and the number or the time if it is one."""
    checksum = zlib.crc32(text.encode())
    clues = {f"{name} length": float(len(text))}
    clues |= {f"{name} letter {place}": float(ord(letter)) for place, letter in enumerate(text[:LETTERS])}
    clues |= {f"{name} letter -{place}": float(ord(letter)) for place, letter in enumerate(text[: -LAST_LETTERS - 1 : -1], 1)}
    clues |= {f"{name} bit {bit}": float(checksum >> bit & 1) for bit in (0, 7, 15, 31)}
    number = _number(text)
    return clues if number is None else clues | {f"{name} number": number}


def _number(text: str) -> float | None:
    if text.isdecimal():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _name(address: str) -> Clues:
    """A sprite's name, with the values of its first and last letters as hexadecimal digits."""
    name = address.rsplit("/", 1)[-1].partition(".")[0]
    clues = dict(_text("name", name))
    for place in (0, -1):
        letter = name[place : place + 1 or None]
        value = float(int(letter, 16)) if letter and letter in "0123456789abcdef" else -1.0
        clues |= {f"name digit {place}": value, f"name half {place}": float(value >= 8)}
    return clues | {f"name decimal {place}": float(name[place : place + 1].isdigit()) for place in (0, 1)}


def _sprite(reply: Reply) -> Clues:
    """One sprite as it came: how long it is, how long it took, what stood around it."""
    checksum = zlib.crc32(reply.content)
    bits = {f"sprite bit {bit}": float(checksum >> bit & 1) for bit in (0, 7, 31)}
    return _transport("sprite", reply, len(reply.content)) | bits


def _answer(reply: Reply) -> Clues:
    """The reply to an answer, without what it says of the answer."""
    said = json.loads(reply.content)
    told = sum(len(json.dumps(said[key])) for key in TOLD if key in said)
    return _transport("answer", reply, len(reply.content) - told) | _values("answer", said, without=TOLD)


def _transport(name: str, reply: Reply, size: int) -> Clues:
    """How long a reply is, how long it took, and its headers, whatever they are; not the date, which is the time it came."""
    clues = {f"{name} status": float(reply.status), f"{name} bytes": float(size), f"{name} seconds": reply.seconds}
    said = {key.lower(): value for key, value in reply.headers.items()}
    clues[f"{name} headers"] = float(len(said))
    for place, (key, value) in enumerate(said.items()):
        clues |= {f"{name} {key} there": 1.0, f"{name} {key} place": float(place)}
        if key == "content-length":  # no news beyond the size, unless it differs
            clues[f"{name} excess"] = float(value) - len(reply.content)
        elif key != "date":
            clues |= _text(f"{name} {key}", value)
    return clues


def _beside(trials: Sequence[Mapping[str, Any]], at: int) -> Clues:
    """How a trial's neighbours in its task look."""
    near = {other: trials[at + other] if 0 <= at + other < len(trials) else trials[at] for other in (-1, 1)}
    return {f"order {other}": float(np.sign(trial["upper"] - trial["lower"])) for other, trial in near.items()}


def search(  # noqa: PLR0913, PLR0917 (what, of whom, and how)
    clues: Floats,
    visit_of: NDArray[np.int64],
    labels: NDArray[np.bool_],
    how: How,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> Found:
    """Train, test on what wasn't trained on, and compare with permuted labels.

    Labels are permuted within visits, as a visit has a fixed number of catch trials.

    Args:
        clues: from ``clues_of``, shape (n_trials, n_clues).
        visit_of: shape (n_trials,).
        labels: shape (n_trials,).
        how: tested on other visits, or on other trials of the same ones.
        rng: draws folds and permutations.
        permutations: how many.
    """
    smoother = _smoother(clues, visit_of, _folds(visit_of, how, rng), how)
    shuffled = np.stack([labels.astype(float), *(_permuted(labels, visit_of, rng) for _ in range(permutations))], axis=1)
    # A visit's own mean is known to everybody: without it, only what tells trials of a visit apart is learnt.
    centred = shuffled - _visit_means(shuffled, visit_of)
    aucs = _aucs(smoother @ centred, shuffled)
    return Found(float(aucs[0]), float((aucs[0] <= aucs).mean()))


def _folds(visit_of: NDArray[np.int64], how: How, rng: np.random.Generator) -> NDArray[np.int64]:
    if how == "across":
        return rng.permutation(visit_of.max() + 1)[visit_of] % FOLDS
    folds = np.empty(len(visit_of), np.int64)
    for visit in np.unique(visit_of):
        here = np.flatnonzero(visit_of == visit)
        folds[here] = rng.permutation(len(here)) % FOLDS
    return folds


def _smoother(clues: Floats, visit_of: NDArray[np.int64], folds: NDArray[np.int64], how: How) -> Floats:
    """The matrix that turns labels into predictions, each from other folds than its own: shape (n_trials, n_trials)."""
    linear = clues @ clues.T / clues.shape[1]
    squares = np.diag(linear)
    gaussian = np.exp(-(squares[:, None] + squares[None, :] - 2 * linear))
    kernel = linear + gaussian
    if how == "within":  # what one visit's trials say counts for that visit most
        kernel = kernel * (0.1 + (visit_of[:, None] == visit_of[None, :]))
    # Inverted once for all folds: by the inverse of a partitioned matrix, what is left without a fold's rows follows from it.
    inverse = np.linalg.inv(kernel + RIDGE * np.eye(len(kernel)))
    smoother: Floats = np.zeros_like(kernel)
    for fold in range(FOLDS):
        test, train = folds == fold, folds != fold
        smoother[np.ix_(test, train)] = -np.linalg.solve(inverse[np.ix_(test, test)], inverse[np.ix_(test, train)])
    return smoother


def _permuted(labels: NDArray[np.bool_], visit_of: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    # Visits are contiguous: sorting random numbers within each shuffles it.
    order = np.lexsort((rng.random(len(labels)), visit_of))
    permuted: Floats = labels[order].astype(float)
    return permuted


def _visit_means(values: Floats, visit_of: NDArray[np.int64]) -> Floats:
    counts = np.bincount(visit_of).astype(float)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, visit_of, values)
    means: Floats = (sums / counts[:, None])[visit_of]
    return means


def _aucs(scores: Floats, labels: Floats) -> Floats:
    """The area under each column's ROC curve: shape (n_columns,)."""
    ranks = rankdata(np.ascontiguousarray(scores.T), axis=1).T  # twice as fast as along columns
    positive = labels.sum(axis=0)
    sums = (ranks * labels).sum(axis=0)
    aucs: Floats = (sums - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    return aucs
