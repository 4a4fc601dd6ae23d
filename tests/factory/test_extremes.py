"""What is kept of a unit is what sorting all of its activations would give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowd_imi.factory.extremes import Extremes, ties, values

CPU = torch.device("cpu")

FEW = st.sampled_from([-np.inf, -2.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 3.5, np.inf])
"""Few values, so that most are equal."""


def kept(activations: np.ndarray, tiebreaks: np.ndarray, k: int, cuts: list[int]) -> dict[str, np.ndarray]:
    extremes = Extremes(activations.shape[1], k, CPU)
    for begin, end in zip([0, *cuts], [*cuts, len(activations)], strict=True):
        extremes.add(torch.from_numpy(activations[begin:end]), torch.from_numpy(tiebreaks[begin:end]))
    return extremes.state()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(1, 40), k=st.integers(1, 50))
def test_they_are_the_ends_of_the_sorted_column_however_it_is_cut(data, count, k):
    column = np.array(data.draw(st.lists(FEW, min_size=count, max_size=count)), dtype=np.float32)
    tiebreaks = np.array(data.draw(st.permutations(range(count))), dtype=np.int64)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=3)))
    state = kept(column[:, None], tiebreaks, k, cuts)
    order = np.lexsort((tiebreaks, column))
    assert ties(state["lowest"])[0].tolist() == tiebreaks[order[:k]].tolist()
    assert ties(state["highest"])[0].tolist() == tiebreaks[order[::-1][:k]].tolist()
    assert values(state["lowest"])[0].tolist() == column[order[:k]].tolist()


def test_every_unit_is_on_its_own():
    # Unit 0 rises and unit 1 falls over 600 images, which are more than are merged at a time.
    column = np.arange(600, dtype=np.float32)
    state = kept(np.stack([column, -column], axis=1), np.arange(600), 2, [100, 300, 301])
    assert values(state["highest"]).tolist() == [[599, 598], [0, -1]]
    assert ties(state["highest"]).tolist() == [[599, 598], [0, 1]]
    assert ties(state["lowest"]).tolist() == [[0, 1], [599, 598]]


@pytest.mark.parametrize("cut", [1, 37, 99])
def test_what_is_restored_goes_on_as_if_nothing_had_happened(cut):
    rng = np.random.default_rng(0)
    column = rng.normal(size=(100, 3)).astype(np.float32)
    tiebreaks = rng.permutation(100)
    first = Extremes(3, 7, CPU)
    first.add(torch.from_numpy(column[:cut]), torch.from_numpy(tiebreaks[:cut]))
    second = Extremes(3, 7, CPU)
    second.restore(first.state())
    second.add(torch.from_numpy(column[cut:]), torch.from_numpy(tiebreaks[cut:]))
    whole = kept(column, tiebreaks, 7, [])
    assert all(np.array_equal(second.state()[side], whole[side]) for side in whole)
