"""What comparisons are made of: a record per test, with its result in plain words."""

from collections.abc import Mapping

from crowd_imi.records import Condition, Difficulty, Record


class Difference(Record):
    """A difference of two means of unit means: first minus second, in proportion correct."""

    value: float
    low: float | None
    """Lower end of the 95 % interval with units and participants drawn anew; None for fewer than two of either."""
    high: float | None
    units_low: float | None
    """The same with units alone drawn anew, as in the publication."""
    units_high: float | None


class Effect(Record):
    """A test's effect size."""

    name: str
    value: float
    low: float | None
    """Lower end of its 95 % bootstrap interval over units."""
    high: float | None


class ModelPair(Record):
    """Two models in one condition at one difficulty."""

    first: str
    second: str
    difference: Difference
    p_holm: float | None
    """As published: Conover's test with Holm's correction over the pairs of this condition and difficulty; None without a
    test."""
    welch_p_holm: float | None
    """Welch's t that knows participants, corrected in the same way: what sentences go by."""


class ModelTest(Record):
    """Do models differ, in one condition at one difficulty? Welch's test that knows participants; Kruskal–Wallis beside it."""

    condition: Condition
    difficulty: Difficulty
    units: Mapping[str, int]
    """Model → units with an answer."""
    h: float | None
    """Kruskal and Wallis' H over unit means, as published, corrected for ties; None when all units scored the same."""
    p: float | None
    welch: float | None
    """Welch's F, with what participants add in the standard errors: what sentences go by. None when a model's units all scored
    the same, or for fewer than two units or participants."""
    welch_p: float | None
    effect: Effect | None
    """Epsilon²."""
    pairs: tuple[ModelPair, ...]
    remarks: tuple[str, ...]
    """What speaks against the test's assumptions."""
    sentence: str


class ConditionTest(Record):
    """Natural against synthetic references for one model, paired by unit: t that knows participants; Wilcoxon beside it."""

    model: str
    difficulty: Difficulty
    units: int
    """Units with answers in both conditions."""
    difference: Difference
    """Natural minus synthetic."""
    w: float | None
    """Wilcoxon's smaller sum of ranks, as published; None when every difference is zero or there is one unit."""
    p: float | None
    p_holm: float | None
    """Corrected over the models at this difficulty."""
    welch: float | None
    """t of the mean difference, with what participants add in the standard error; None when all differences are equal, or for
    fewer than two units or participants."""
    welch_p: float | None
    welch_p_holm: float | None
    """Corrected over the models at this difficulty: what sentences go by."""
    effect: Effect | None
    """Rank-biserial correlation."""
    remarks: tuple[str, ...]
    sentence: str


class DepthTest(Record):
    """Does a unit's score go with the depth of its layer? Spearman's rank correlation over the units of one model."""

    model: str
    condition: Condition
    difficulty: Difficulty
    units: int
    layers: int
    p: float | None
    p_holm: float | None
    """Corrected over the models in this condition at this difficulty."""
    effect: Effect | None
    """Rho; None for fewer than three units, one layer, or equal scores."""
    remarks: tuple[str, ...]
    sentence: str


class Comparisons(Record):
    """All that a study compares."""

    models: tuple[ModelTest, ...]
    conditions: tuple[ConditionTest, ...]
    depth: tuple[DepthTest, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        tests: tuple[ModelTest | ConditionTest | DepthTest, ...] = (*self.models, *self.conditions, *self.depth)
        return tuple(test.sentence for test in tests)
