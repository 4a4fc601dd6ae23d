"""Machine against people: does a similarity find hard what people do? Per unit, and per model; null units never take part."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from crowd_imi.errors import ScoringError
from crowd_imi.records import Condition, Difficulty, Record
from crowd_imi.scoring import effects, wording
from crowd_imi.scoring.alpha import Alpha, fit_alpha, machine_mis
from crowd_imi.scoring.machine import UNIT_COLUMNS
from crowd_imi.scoring.mis import Scores
from crowd_imi.scoring.reliability import Reliability
from crowd_imi.seeds import generator

LEAST = 3
"""Units, or models, that a correlation takes."""

UNITS, PANELS = "predictions.csv", "predictions_panels.csv"


class Agreement(Record):
    """Spearman's correlation of machine MIS with people's, in one condition at one difficulty."""

    of: str
    """A model, whose units are correlated; or ``models``, whose means are."""
    condition: Condition
    difficulty: Difficulty
    count: int
    """Units, or models."""
    rho: float | None
    """None for fewer than three, or where all are equal on one side."""
    low: float | None
    """95 % bootstrap interval over units; for models there is none, as they aren't a sample."""
    high: float | None
    ceiling: float | None
    """The noise ceiling of people's unit scores; None for models, and where it can't be had."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine made of the panels that people answered."""

    similarity: str
    alpha: Alpha | None
    problem: str
    """Why there is no α; empty when there is one."""
    units: pd.DataFrame
    """A row per real unit that both scored: ``arm``, ``unit``, ``model``, ``condition``, ``difficulty``, ``layer``,
    ``responses``, ``proportion_correct``, ``low``, ``high`` (of people), ``machine_mis`` (share of Δ > 0 where there is no α
    above 0) and ``delta``."""
    agreements: tuple[Agreement, ...]

    @property
    def fitted(self) -> bool:
        """Whether ``machine_mis`` is the mean of σ(α · Δ)."""
        return self.alpha is not None and self.alpha.value > 0

    @property
    def sentence(self) -> str:
        """α in words."""
        if self.alpha is None:
            return f"No α could be fitted ({self.problem}), so that a unit's machine score is its share of panels with Δ > 0."
        found = self.alpha
        folds = f"{_minus(min(found.folds), 2)} to {_minus(max(found.folds), 2)}"
        said = (
            f"α = {_minus(found.value, 2)} [{_end(found.low)}, {_end(found.high)}] (95 %, units drawn anew), from "
            f"{found.responses:,} responses to {found.units} units; left out by fifths, units gave {folds}, and a response of "
            f"theirs a mean log-likelihood of {_minus(found.held_out)} (chance: {_minus(float(np.log(0.5)))})."
        )
        return said if self.fitted else f"{said} It isn't above 0, so that a unit's machine score is its share of Δ > 0."


def _end(value: float | None) -> str:
    return wording.NOTHING if value is None else _minus(value, 2)


def _minus(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def read_predictions(folder: Path, pack_sha256: str) -> tuple[str, pd.DataFrame, pd.DataFrame] | None:
    """The similarity's name, Δ of every panel, and a row per unit, as ``predict`` wrote them.

    Args:
        folder: the study's ``report/``.
        pack_sha256: of the pack that people saw.

    Returns:
        None when there are none, or when they are of another pack.

    Raises:
        ScoringError: a table of them is damaged.
    """
    try:
        units, panels = pd.read_csv(folder / UNITS), pd.read_csv(folder / PANELS)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise ScoringError(f"{folder / UNITS}: can't be read ({error}); run `crowd-imi predict` again") from None
    missing = [
        f"{name}: {column}"
        for name, table, columns in (
            (UNITS, units, tuple(UNIT_COLUMNS)),
            (PANELS, panels, ("arm", "unit", "batch", "delta")),
        )
        for column in columns
        if column not in table
    ]
    if missing or units.empty:
        raise ScoringError(f"{folder}: columns are missing ({', '.join(missing) or 'all'}); run `crowd-imi predict` again")
    if set(units["pack_sha256"]) != {pack_sha256}:
        return None
    return str(units["similarity"].iloc[0]), panels, units


def machine_against_people(
    scores: Scores, similarity: str, panels: pd.DataFrame, reliable: tuple[Reliability, ...], seed: int
) -> Machine | None:
    """Fit α to people's answers, and hold the machine's unit scores against theirs.

    Args:
        scores: from ``score``.
        similarity: its name.
        panels: ``arm``, ``unit``, ``batch`` and ``delta``; those that nobody answered don't count for α, but do for units.
        reliable: from ``reliabilities`` of the same scores, for the noise ceilings.
        seed: of the study.

    Returns:
        None when the machine saw none of the units that people answered.
    """
    real = scores.units[~scores.units["null"] & (scores.units["responses"] > 0)]
    keys = ["arm", "unit"]
    found = panels.merge(real[keys], on=keys)
    if found.empty:
        return None
    given = scores.counted[["arm", "unit", "batch", "correct"]].astype({"arm": str, "unit": str})
    given = given.merge(found, on=[*keys, "batch"])
    alpha, problem = None, ""
    try:
        alpha = fit_alpha(
            given["delta"].to_numpy(np.float64),
            given["correct"].to_numpy(np.bool_),
            given["unit"].to_numpy(np.str_),
            generator(seed, "alpha", similarity),
        )
    except ScoringError as error:
        problem = str(error).removeprefix("α: ")
    deltas = found.groupby(keys, observed=True)["delta"]
    if alpha is not None and alpha.value > 0:
        machine = deltas.agg(lambda values: machine_mis(values.to_numpy(np.float64), alpha.value))
    else:
        machine = deltas.agg(lambda values: float((values > 0).mean()))
    columns = [*keys, "model", "condition", "difficulty", "layer", "responses", "proportion_correct", "low", "high"]
    scored = pd.DataFrame({"machine_mis": machine, "delta": deltas.mean()})
    units = real[columns].merge(scored, left_on=keys, right_index=True).reset_index(drop=True)
    ceilings = {(one.model, one.condition, one.difficulty): one.ceiling for one in reliable}
    agreements = [_of_units(members, ceilings, seed) for _arm, members in units.groupby("arm", sort=False)]
    agreements += [_of_models(members) for _at, members in units.groupby(["condition", "difficulty"], sort=False)]
    return Machine(similarity, alpha, problem, units, tuple(one for one in agreements if one is not None))


def _of_units(
    members: pd.DataFrame, ceilings: dict[tuple[str, Condition, Difficulty], float | None], seed: int
) -> Agreement | None:
    first = members.iloc[0]
    model, condition, difficulty = first["model"], first["condition"], first["difficulty"]
    people, machine = (members[name].to_numpy(np.float64) for name in ("proportion_correct", "machine_mis"))
    rho = _rho(people, machine)
    rng = generator(seed, "agreement", model, condition, difficulty)
    interval = effects.spearman_interval(people, machine, rng) if rho is not None else None
    ceiling = ceilings.get((model, condition, difficulty))
    where = f"{model}, {wording.setting(condition, difficulty)}"
    number = wording.count(len(members), "unit")
    if rho is None:
        said = f"{where}: agreement can't be said ({number}, or all scored the same)."
    else:
        ends = wording.signed_interval(interval.low, interval.high) if interval else wording.NOTHING
        held = f"; the noise ceiling is {wording.share(ceiling)}" if ceiling else "; there is no noise ceiling to hold it against"
        said = f"{where}: Spearman's rho of machine and people is {wording.signed(rho)} {ends} over {number}{held}."
    return Agreement(
        of=model,
        condition=condition,
        difficulty=difficulty,
        count=len(members),
        rho=rho,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        ceiling=ceiling,
        sentence=said,
    )


def _of_models(members: pd.DataFrame) -> Agreement | None:
    """Of the models' means; None for a single model, of which there is nothing to say."""
    means = members.groupby("model", sort=False)[["proportion_correct", "machine_mis"]].mean()
    if len(means) < 2:
        return None
    rho = _rho(means["proportion_correct"].to_numpy(), means["machine_mis"].to_numpy())
    condition, difficulty = members["condition"].iloc[0], members["difficulty"].iloc[0]
    pairs = ", ".join(
        f"{model} {wording.share(row['proportion_correct'])} and {wording.share(row['machine_mis'])}"
        for model, row in means.iterrows()
    )
    found = f"rho of the models' means is {wording.signed(rho)}" if rho is not None else "too few models for a correlation"
    return Agreement(
        of="models",
        condition=condition,
        difficulty=difficulty,
        count=len(means),
        rho=rho,
        low=None,
        high=None,
        ceiling=None,
        sentence=f"Models, {wording.setting(condition, difficulty)} (people and machine): {pairs}; {found}.",
    )


def _rho(
    people: "np.ndarray[tuple[int], np.dtype[np.float64]]", machine: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> float | None:
    if len(people) < LEAST or np.ptp(people) == 0 or np.ptp(machine) == 0:
        return None
    return float(spearmanr(people, machine).statistic)
