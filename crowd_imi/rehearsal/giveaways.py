"""Does anything that the browser receives give an answer away? A classifier on all of it but the pictures' content.

What a browser gets over whole visits, every JSON document, header, size, name and waiting time, becomes numbers per trial.
Kernel ridge regression, linear and Gaussian, learns from them which trials are catch trials and which query is the right
one, once across visits (tested on visits that it hasn't seen) and once within them (tested on trials of visits whose other
trials it has seen). A permutation test says whether it does better than chance.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from crowd_imi.rehearsal.wire import Reply

Floats = NDArray[np.float64]
How = Literal["across", "within"]

FOLDS = 5
RIDGE = 1.0
PERMUTATIONS = 1199
NAME_LETTERS = 40
"""Letters of a sprite's name that are looked at one by one, from its beginning and from its end."""


@dataclass(frozen=True, slots=True)
class Received:
    """What one visit's browser received of its trials."""

    view: Reply
    """``GET /api/visit``."""
    sprites: Mapping[str, Reply]
    """By address, as the document names them."""


@dataclass(frozen=True, slots=True)
class Found:
    """How well the classifier did."""

    auc: float
    """0.5 is chance."""
    p_value: float
    """Share of permutations of the labels that do at least as well."""


def clues_of(visits: Sequence[Received]) -> tuple[Floats, NDArray[np.int64]]:
    """Everything as numbers.

    Returns:
        Clues, shape (n_trials, n_clues), standardised; constant ones are left out. And which visit each trial is of.
    """
    rows, visit_of = [], []
    for number, visit in enumerate(visits):
        trials: list[dict[str, Any]] = json.loads(visit.view.content)["main"]
        replies = [visit.sprites[trial["sprite"]] for trial in trials]
        raw = [_document(trial) + _transport(reply) for trial, reply in zip(trials, replies, strict=True)]
        beside = [np.array([len(reply.content), reply.seconds, *map(float, _headers(reply))]) for reply in replies]
        ranks = rankdata(np.stack(beside), axis=0) / len(trials)
        neighbours = np.array([_beside(trials, at) for at in range(len(trials))])
        rows.append(np.concatenate([np.array(raw, float), ranks, neighbours], axis=1))
        visit_of += [number] * len(trials)
    clues = np.concatenate(rows)
    clues = clues[:, clues.std(axis=0) > 1e-12]
    return (clues - clues.mean(axis=0)) / clues.std(axis=0), np.array(visit_of)


def _document(trial: Mapping[str, Any]) -> list[float]:
    """One trial's JSON: its values, their order and parity, the order of its keys, and its sprite's name."""
    upper, lower, position = trial["upper"], trial["lower"], trial["position"]
    keys = list(trial)
    tiles = [*trial["left"], *trial["right"], upper, lower]
    order = [upper - lower, np.sign(upper - lower), min(upper, lower), max(upper, lower), upper % 5 - lower % 5, upper // 5]
    first = [trial["left"].index(min(trial["left"])), trial["right"].index(max(trial["right"]))]
    return [
        position,
        position % 2,
        *map(float, tiles),
        *map(float, order),
        *map(float, first),
        float(len(json.dumps(trial))),
        *(float(keys.index(key)) for key in sorted(keys)),
        *_name(str(trial["sprite"])),
    ]


def _name(address: str) -> list[float]:
    name = address.rsplit("/", 1)[-1].partition(".")[0]
    codes = [float(ord(letter)) for letter in name[:NAME_LETTERS]]
    codes += [0.0] * (NAME_LETTERS - len(codes))
    digits = [float(letter.isdigit()) for letter in name[:2]]
    value = [float(int(letter, 16)) if letter in "0123456789abcdef" else -1.0 for letter in (name[:1], name[-1:])]
    halves = [float(each >= 8) for each in value]
    return [float(len(name)), *codes, *digits, *value, *halves, float(zlib.crc32(name.encode()) & 1)]


def _transport(reply: Reply) -> list[float]:
    """One sprite as it came: how long it is, how long it took, what stood around it."""
    checksum = zlib.crc32(reply.content)
    bits = [float(checksum >> bit & 1) for bit in (0, 7, 31)]
    return [float(reply.status), float(len(reply.content)), reply.seconds, *map(float, _headers(reply)), *bits]


def _headers(reply: Reply) -> list[int]:
    said = {name.lower(): value for name, value in reply.headers.items() if name.lower() != "date"}
    lengths = [len(said.get(name, "")) for name in ("etag", "last-modified", "content-type", "cache-control")]
    return [len(said), sum(map(len, said.values())), int(said.get("content-length", 0)), *lengths]


def _beside(trials: Sequence[Mapping[str, Any]], at: int) -> list[float]:
    """How a trial's neighbours in its task look."""
    near = [trials[other] if 0 <= other < len(trials) else trials[at] for other in (at - 1, at + 1)]
    return [float(np.sign(trial["upper"] - trial["lower"])) for trial in near]


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
    smoother: Floats = np.zeros_like(kernel)
    for fold in range(FOLDS):
        test, train = folds == fold, folds != fold
        inner = kernel[np.ix_(train, train)] + RIDGE * np.eye(int(train.sum()))
        smoother[np.ix_(test, train)] = np.linalg.solve(inner, kernel[np.ix_(train, test)]).T
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
    ranks = rankdata(scores, axis=0)
    positive = labels.sum(axis=0)
    sums = (ranks * labels).sum(axis=0)
    aucs: Floats = (sums - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    return aucs
