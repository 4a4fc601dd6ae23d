"""Comparisons: between models, natural against synthetic references, along depth. Null units never take part."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import kruskal, spearmanr, wilcoxon

from crowd_imi.scoring import effects
from crowd_imi.scoring.compare_wording import (
    EPSILON,
    condition_sentence,
    depth_sentence,
    few,
    model_remarks,
    model_sentence,
    pair_remarks,
)
from crowd_imi.scoring.comparisons import Comparisons, ConditionTest, DepthTest, Difference, Effect, ModelPair, ModelTest
from crowd_imi.scoring.crossed_tests import Spread, against_zero, between, paired_spread, spread
from crowd_imi.scoring.mis import Group, Scores
from crowd_imi.scoring.resampling import Crossing, Floats, Interval, crossed, over_units, percentiles, weights
from crowd_imi.seeds import generator
from crowd_imi.study import NULL


def compare(scores: Scores, seed: int) -> Comparisons:
    """Compare whatever a study has two of; empty where it hasn't.

    Args:
        scores: from ``score``.
        seed: of the study; the same seed gives the same intervals.
    """
    groups = [group for group in scores.groups if group.model != NULL and group.units]
    given = _Given.of(scores, seed)
    settings = list(dict.fromkeys((group.condition, group.difficulty) for group in groups))
    by_setting = {setting: [group for group in groups if (group.condition, group.difficulty) == setting] for setting in settings}
    return Comparisons(
        models=tuple(_model_test(given, here) for here in by_setting.values() if len(here) > 1),
        conditions=tuple(_condition_tests(given, groups)),
        depth=tuple(test for here in by_setting.values() for test in _depth_tests(given, here)),
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What is compared, by arm: a model in a condition at a difficulty is one."""

    seed: int
    units: Mapping[str, pd.DataFrame]
    """Arm → its units with an answer; null units left out."""
    answers: Mapping[str, pd.DataFrame]
    by_name: tuple[str, ...]

    @classmethod
    def of(cls, scores: Scores, seed: int) -> "_Given":
        if scores.units.empty:
            return cls(seed, {}, {}, ())
        answered = scores.units[(scores.units["responses"] > 0) & ~scores.units["null"]]
        units, answers = (
            {str(arm): rows for arm, rows in table.groupby("arm", observed=True)} for table in (answered, scores.counted)
        )
        return cls(seed, units, answers, scores.by_name)

    def crossing(self, group: Group, units: pd.Index) -> Crossing:
        return Crossing.of(self.answers[group.arm], units)


def _model_test(given: _Given, groups: Sequence[Group]) -> ModelTest:
    condition, difficulty = groups[0].condition, groups[0].difficulty
    members = {group.model: given.units[group.arm] for group in groups}
    means = [np.asarray(table["proportion_correct"], dtype=np.float64) for table in members.values()]
    differ = np.ptp(np.concatenate(means)) > 0
    result = kruskal(*means) if differ else None
    spreads = {group.model: spread(given.crossing(group, pd.Index(given.units[group.arm]["unit"]))) for group in groups}
    welch = between(list(spreads.values()))
    test = ModelTest(
        condition=condition,
        difficulty=difficulty,
        units={model: len(table) for model, table in members.items()},
        h=float(result.statistic) if result else None,
        p=float(result.pvalue) if result else None,
        welch=welch.statistic if welch else None,
        welch_p=welch.p if welch else None,
        effect=_effect(
            EPSILON,
            effects.epsilon_squared(means),
            effects.epsilon_squared_interval(means, generator(given.seed, "epsilon", condition, difficulty)),
        ),
        pairs=_pairs(given, groups, conover(list(members), means) if differ else {}, _welch_pairs(spreads)),
        remarks=model_remarks(members),
        sentence="",
    )
    return test.model_copy(update={"sentence": model_sentence(test)})


def conover(models: Sequence[str], means: Sequence[Floats]) -> dict[tuple[str, str], float | None]:
    """Conover's test of every pair of models after Kruskal and Wallis', p-values corrected by Holm over the pairs.

    scikit-posthocs takes the pairs' p-values from t = |mean rank difference| / √(S²·(n − 1 − H)/(n − k)·(1/nᵢ + 1/nⱼ)).

    Args:
        models: their names.
        means: unit means of each, not all equal.

    Returns:
        Pair → p-value; None for all when nothing is left within models (H = n − 1, e.g. one unit each).
    """
    from scikit_posthocs import posthoc_conover

    pairs = list(combinations(range(len(models)), 2))
    within = sum(len(np.unique(values)) > 1 for values in means)
    if not within:
        return {(models[one], models[other]): None for one, other in pairs}
    table = posthoc_conover(list(means)).to_numpy()
    corrected = holm([float(table[pair]) for pair in pairs])
    return {(models[one], models[other]): p for (one, other), p in zip(pairs, corrected, strict=True)}


_PValues = Mapping[tuple[str, str], float | None]


def _welch_pairs(spreads: Mapping[str, Spread | None]) -> _PValues:
    pairs = list(combinations(spreads, 2))
    found = [between([spreads[one], spreads[other]]) for one, other in pairs]
    return dict(zip(pairs, holm([test.p if test else None for test in found]), strict=True))


def _pairs(given: _Given, groups: Sequence[Group], p_values: _PValues, welch: _PValues) -> tuple[ModelPair, ...]:
    """Draws of a model are used for all of its pairs; those of two models are independent, as nobody sees two arms."""
    means, over, both = {}, {}, {}
    for group in groups:
        answers = given.crossing(group, pd.Index(given.units[group.arm]["unit"]))
        rng = generator(given.seed, "compare", group.model, group.condition, group.difficulty)
        units = weights(len(answers.means), rng)
        means[group.model] = float(answers.means.mean())
        enough = min(answers.asked.shape) > 1
        over[group.model] = over_units(answers.means, units) if len(answers.means) > 1 else None
        both[group.model] = crossed(answers, units, rng) if enough else None
    return tuple(
        ModelPair(
            first=one,
            second=other,
            difference=_difference(means[one] - means[other], _minus(both[one], both[other]), _minus(over[one], over[other])),
            p_holm=p_values.get((one, other)),
            welch_p_holm=welch[one, other],
        )
        for one, other in combinations(means, 2)
    )


def _minus(one: Floats | None, other: Floats | None) -> Floats | None:
    return None if one is None or other is None else one - other


def _difference(value: float, both: Floats | None, units: Floats | None) -> Difference:
    wide = percentiles(both) if both is not None else None
    narrow = percentiles(units) if units is not None else None
    return Difference(
        value=value,
        low=wide.low if wide else None,
        high=wide.high if wide else None,
        units_low=narrow.low if narrow else None,
        units_high=narrow.high if narrow else None,
    )


def _effect(name: str, value: float | None, interval: Interval | None) -> Effect | None:
    if value is None:
        return None
    return Effect(name=name, value=value, low=interval.low if interval else None, high=interval.high if interval else None)


def _condition_tests(given: _Given, groups: Sequence[Group]) -> Iterator[ConditionTest]:
    natural = {(group.difficulty, group.model): group for group in groups if group.condition == "natural"}
    synthetic = {(group.difficulty, group.model): group for group in groups if group.condition == "synthetic"}
    found = [_condition_test(given, natural[key], synthetic[key]) for key in natural if key in synthetic]
    for difficulty in dict.fromkeys(test.difficulty for test in found if test):
        here = [test for test in found if test and test.difficulty == difficulty]
        both = zip(here, holm([test.p for test in here]), holm([test.welch_p for test in here]), strict=True)
        for test, p_holm, welch_p_holm in both:
            corrected = test.model_copy(update={"p_holm": p_holm, "welch_p_holm": welch_p_holm})
            yield corrected.model_copy(update={"sentence": condition_sentence(corrected)})


def _condition_test(given: _Given, natural: Group, synthetic: Group) -> ConditionTest | None:
    units = pd.Index(given.units[natural.arm]["unit"]).intersection(pd.Index(given.units[synthetic.arm]["unit"]))
    if not len(units):
        return None
    first, second = given.crossing(natural, units), given.crossing(synthetic, units)
    # 25/30 − 20/30 and 20/30 − 15/30 are a tie, though not in floating point.
    differences = np.round(first.means - second.means, 9)
    purpose = (natural.model, natural.difficulty)
    rng = generator(given.seed, "paired", *purpose)
    drawn = weights(len(units), rng)
    enough = len(units) > 1 and min(first.asked.shape[1], second.asked.shape[1]) > 1
    tested = len(units) > 1 and bool(differences.any())
    result = wilcoxon(differences) if tested else None
    welch = against_zero(paired_spread(first, second))
    interval = effects.rank_biserial_interval(differences, generator(given.seed, "biserial", *purpose)) if tested else None
    return ConditionTest(
        model=natural.model,
        difficulty=natural.difficulty,
        units=len(units),
        difference=_difference(
            float((first.means - second.means).mean()),
            crossed(first, drawn, rng) - crossed(second, drawn, rng) if enough else None,
            over_units(first.means - second.means, drawn) if len(units) > 1 else None,
        ),
        w=float(result.statistic) if result else None,
        p=float(result.pvalue) if result else None,
        p_holm=None,
        welch=welch.statistic if welch else None,
        welch_p=welch.p if welch else None,
        welch_p_holm=None,
        effect=_effect("rank-biserial r", effects.rank_biserial(differences) if tested else None, interval),
        remarks=pair_remarks(differences),
        sentence="",
    )


def _depth_tests(given: _Given, groups: Sequence[Group]) -> Iterator[DepthTest]:
    found = [_depth_test(given, group) for group in groups]
    for test, p_holm in zip(found, holm([test.p for test in found]), strict=True):
        corrected = test.model_copy(update={"p_holm": p_holm})
        yield corrected.model_copy(update={"sentence": depth_sentence(corrected)})


def _depth_test(given: _Given, group: Group) -> DepthTest:
    members = given.units[group.arm]
    means = np.asarray(members["proportion_correct"], dtype=np.float64)
    depth = np.asarray(members["depth"], dtype=np.float64)
    tested = len(means) > 2 and np.ptp(means) > 0 and np.ptp(depth) > 0
    result = spearmanr(depth, means) if tested else None
    rng = generator(given.seed, "depth", group.model, group.condition, group.difficulty)
    remarks = few(len(means))
    if group.model in given.by_name:
        remarks += ("layers stand in the order of their names, which needn't be the network's",)
    return DepthTest(
        model=group.model,
        condition=group.condition,
        difficulty=group.difficulty,
        units=len(means),
        layers=len(np.unique(depth)),
        p=float(result.pvalue) if result else None,
        p_holm=None,
        effect=_effect("Spearman's rho", float(result.statistic), effects.spearman_interval(depth, means, rng))
        if result
        else None,
        remarks=remarks,
        sentence="",
    )


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's correction over the tests that were made.

    statsmodels' ``multipletests(method="holm")`` gives the same numbers (a test compares), but collects garbage at every call:
    a third of all the time that comparisons took.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6.
    """
    made = np.array([p for p in p_values if p is not None])
    order = np.argsort(made)
    corrected = np.empty(len(made))
    corrected[order] = np.minimum(np.maximum.accumulate(made[order] * np.arange(len(made), 0, -1)), 1)
    told = iter(corrected)
    return tuple(None if p is None else float(next(told)) for p in p_values)
