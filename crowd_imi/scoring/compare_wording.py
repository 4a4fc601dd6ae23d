"""Comparisons in words: what was found, and which assumptions don't hold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import skew

from crowd_imi.scoring import wording
from crowd_imi.scoring.comparisons import ConditionTest, DepthTest, Effect, ModelTest
from crowd_imi.scoring.resampling import Floats

ALPHA = 0.05
FEW = 10
"""Fewer units than this and a test's p-value is rough, or it can hardly find anything."""
NAMED = 6
"""Pairs of models that a sentence names at most."""
EPSILON = "epsilon²"
"""An effect size that can't be negative, and has no sign."""


def few(units: int) -> tuple[str, ...]:
    """An assumption that a small sample doesn't meet."""
    return (f"only {wording.count(units, 'unit')}: the p-value is rough",) if units < FEW else ()


def model_remarks(members: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """What speaks against the assumptions of Kruskal and Wallis' test over these unit tables."""
    sizes = {model: len(table) for model, table in members.items()}
    found = []
    few = [model for model, size in sizes.items() if size < FEW]
    if few:
        found.append(f"fewer than {FEW} units of {', '.join(few)}: the p-values are rough")
    if len(set(sizes.values())) > 1:
        found.append(f"models have unequal numbers of units ({min(sizes.values())} to {max(sizes.values())})")
    answers = np.concatenate([table["responses"].to_numpy() for table in members.values()])
    fewest, most = int(answers.min()), int(answers.max())
    if most > fewest:
        found.append(f"units have unequal numbers of answers ({fewest} to {most}) and count the same")
    _scores, times = np.unique([score for table in members.values() for score in table["proportion_correct"]], return_counts=True)
    tied = float(times[times > 1].sum() / times.sum())
    if tied > 0:
        found.append(f"{wording.percent(tied)} of the units tie with another, for which the test is corrected")
    spreads = [float(table["proportion_correct"].std()) for table in members.values() if len(table) > 1]
    if len(spreads) > 1 and max(spreads) > 2 * min(spreads):
        found.append(
            f"units spread unequally (standard deviations {wording.share(min(spreads))} to {wording.share(max(spreads))}): "
            "the test says which model tends to higher scores, not that medians differ"
        )
    return tuple(found)


def pair_remarks(differences: Floats) -> tuple[str, ...]:
    """What speaks against the assumptions of Wilcoxon's test."""
    found = list(few(len(differences)))
    zeros = int((differences == 0).sum())
    if zeros:
        found.append(f"{wording.count(zeros, 'difference is', 'differences are')} zero and left out of the test")
    sizes = np.abs(differences[differences != 0])
    if len(np.unique(sizes)) < len(sizes):
        found.append("some differences tie, for which the test is corrected")
    if np.ptp(differences) > 0 and abs(float(skew(differences))) > 1:
        found.append("differences are skewed: the test needn't speak about their median")
    return tuple(found)


def _sized(effect: Effect | None) -> str:
    if effect is None:
        return ""
    if effect.name == EPSILON:
        return f", {effect.name} = {wording.share(effect.value)} {wording.interval(effect.low, effect.high)}"
    return f", {effect.name} = {wording.signed(effect.value)} {wording.signed_interval(effect.low, effect.high)}"


def _told(sentence: str, remarks: Sequence[str]) -> str:
    said = f"{sentence} Note: {'; '.join(remarks)}." if remarks else sentence
    return said.replace(" = ", wording.unbroken(" = "))


def model_sentence(test: ModelTest) -> str:
    """What was found by Welch's test that knows participants, with Kruskal and Wallis' as published beside it."""
    where = wording.setting(test.condition, test.difficulty)
    number = f"{wording.count(sum(test.units.values()), 'unit')} of {len(test.units)} models"
    if test.h is None or test.p is None:
        return _told(f"With {where}, all {number} scored the same, so nothing could be tested.", test.remarks)
    published = f"as published, Kruskal–Wallis H({len(test.units) - 1}) = {test.h:.2f}, {wording.p_value(test.p)}"
    published += _sized(test.effect)
    if test.welch is None or test.welch_p is None:
        why = "too few units or participants, or a model's units all scored the same, to tell what participants add"
        return _told(f"With {where}, no test that knows participants could be made: {why} ({published}; {number}).", test.remarks)
    verdict = "models differ" if test.welch_p < ALPHA else "no difference between models was found"
    tested = f"Welch's F over units and participants = {test.welch:.2f}, {wording.p_value(test.welch_p)}"
    said = f"With {where}, {verdict} ({tested}; {published}; {number})."
    if test.welch_p >= ALPHA:
        return _told(f"{said} Pairs of models are therefore not interpreted.", test.remarks)
    apart = [pair for pair in test.pairs if pair.welch_p_holm is not None and pair.welch_p_holm < ALPHA]
    named = "; ".join(f"{pair.first} and {pair.second} (by {wording.signed(pair.difference.value)})" for pair in apart[:NAMED])
    rest = f" and {len(apart) - NAMED} more" if len(apart) > NAMED else ""
    pairs = f"Of {wording.count(len(test.pairs), 'pair')}, {len(apart)} differ by Welch's t with Holm's correction"
    return _told(f"{said} {pairs}{': ' if apart else ''}{named}{rest}.", test.remarks)


def condition_sentence(test: ConditionTest) -> str:
    """What was found by t that knows participants, with Wilcoxon's test as published beside it."""
    apart = test.difference
    gap = f"{wording.signed(apart.value)} {wording.signed_interval(apart.low, apart.high)}"
    what = f"{test.model}, {test.difficulty.replace('_', ' ')}: natural minus synthetic references is {gap}"
    over = f"over {wording.count(test.units, 'unit')}"
    published = "" if test.w is None else f"as published, Wilcoxon W = {test.w:g}, {wording.p_value(test.p_holm)} after Holm"
    published += _sized(test.effect)
    if test.welch is None or test.welch_p_holm is None:
        beside = f" ({published})" if published else ""
        return _told(f"{what} {over}; no test that knows participants could be made{beside}.", test.remarks)
    verdict = "a difference" if test.welch_p_holm < ALPHA else "no difference was found"
    tested = f"t over units and participants = {test.welch:.2f}, {wording.p_value(test.welch_p_holm)} after Holm"
    return _told(f"{what} {over}: {verdict} ({tested}{'; ' if published else ''}{published}).", test.remarks)


def depth_sentence(test: DepthTest) -> str:
    """What Spearman's correlation says."""
    where = f"{test.model}, {wording.setting(test.condition, test.difficulty)}"
    number = f"{wording.count(test.units, 'unit')} in {wording.count(test.layers, 'layer')}"
    if test.effect is None or test.p_holm is None:
        return _told(f"{where}: a trend with depth can't be tested ({number}).", test.remarks)
    way = "scores rise" if test.effect.value > 0 else "scores fall"
    verdict = f"{way} with depth" if test.p_holm < ALPHA else "no trend with depth was found"
    return _told(f"{where}: {verdict} ({wording.p_value(test.p_holm)} after Holm{_sized(test.effect)}; {number}).", test.remarks)
