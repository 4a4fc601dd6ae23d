import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

from crowd_imi.scoring import score, tables
from crowd_imi.scoring.crossed_model import _marginal, _Mode, _Model, fit_crossed, with_crossed


def simulated(units: int, people: int, per: int, seed: int, guess: float = 0.5, spreads=(1.0, 0.7, 1.0)) -> pd.DataFrame:
    """Answers with known effects; ``truth`` is the unit's probability, averaged over participants and panels."""
    rng = np.random.default_rng(seed)
    ease, person, panel = (rng.normal(0, sd, size) for sd, size in zip(spreads, (units, people, (units, 5)), strict=True))
    shown, rows = np.zeros(units, dtype=int), []
    for visit in range(people):
        chosen = np.lexsort((rng.random(units), shown))[:per]
        for unit in chosen:
            batch = int(shown[unit] % 5)
            chance = guess + (1 - guess) * expit(1 + ease[unit] + person[visit] + panel[unit, batch])
            rows.append((f"u{unit}", batch, f"v{visit}", bool(rng.random() < chance)))
        shown[chosen] += 1
    table = pd.DataFrame(rows, columns=["unit", "batch", "visit", "correct"])
    truth = _marginal(1 + ease, np.hypot(spreads[1], spreads[2]), guess)
    return table.assign(truth=table["unit"].map({f"u{unit}": truth[unit] for unit in range(units)}))


TINY = pd.DataFrame(
    [("a", 0, "v1", True), ("a", 0, "v2", False), ("a", 1, "v3", True), ("b", 0, "v1", True), ("b", 0, "v3", True)],
    columns=["unit", "batch", "visit", "correct"],
)


def test_a_panels_answers_are_integrated_over_its_effect():
    # One panel with a right and a wrong answer, a panel alone that is right, and one with two right ones; effects as set below.
    mode = _Mode(_Model.of(TINY, 0.5))
    effects = np.array([0.4, 0.3, -0.2, 0.5, -0.6, 0.1])  # μ; a, b; v1, v2, v3
    right = lambda logits: 0.5 + 0.5 * expit(logits)  # noqa: E731

    def over_panel(answers):
        return quad(lambda z: answers(1.2 * z) * norm.pdf(z), -9, 9)[0]

    first = over_panel(lambda b: right(0.4 + 0.3 + 0.5 + b) * (1 - right(0.4 + 0.3 - 0.6 + b)))
    second = over_panel(lambda b: right(0.4 + 0.3 + 0.1 + b))
    third = over_panel(lambda b: right(0.4 - 0.2 + 0.5 + b) * right(0.4 - 0.2 + 0.1 + b))
    assert mode._likelihood(effects, np.log(1.2)).height == pytest.approx(np.log(first * second * third), abs=2e-4)


def test_slope_and_curvature_are_the_likelihoods_derivatives():
    mode, step = _Mode(_Model.of(TINY, 0.5)), 1e-4
    effects, axes = np.array([0.4, 0.3, -0.2, 0.5, -0.6, 0.1]), np.eye(6) * step
    found = mode._likelihood(effects, 0.2)
    heights = [[mode._likelihood(effects + sign * axis, 0.2).height for sign in (1, -1)] for axis in axes]
    assert mode._slope(found) == pytest.approx([(up - down) / (2 * step) for up, down in heights], abs=1e-6)
    slopes = [[mode._slope(mode._likelihood(effects + sign * axis, 0.2)) for sign in (1, -1)] for axis in axes]
    assert mode._bend(found) == pytest.approx(-np.array([(up - down) / (2 * step) for up, down in slopes]), abs=1e-6)


def test_averaging_over_effects_draws_a_probability_towards_its_middle():
    # Without spread ½ + ½·σ(0) = .75; about 0 the average of σ stays ½. With a spread of 1.7 logits, which is about that of a
    # normal ogive of sd 1, E σ(1.7 + 1.7·z) is near Φ(1/√2) = .760: ½ + ½·.760 = .880.
    assert _marginal(np.array([0.0]), 0.0, 0.5) == pytest.approx(0.75)
    assert _marginal(np.array([0.0]), 2.0, 0.5) == pytest.approx(0.75)
    assert _marginal(np.array([1.7]), 1.7, 0.5) == pytest.approx(0.880, abs=0.005)


def test_known_effects_are_found_again():
    # 120 units × 40 answers of 120 participants: spreads 1, .7 and 1 logits.
    table = simulated(120, 120, 40, seed=2)
    fit = fit_crossed(table)
    assert (fit.unit_sd, fit.participant_sd) == (pytest.approx(1, abs=0.3), pytest.approx(0.7, abs=0.25))
    assert fit.panel_sd == pytest.approx(1, abs=0.4)
    units = table.groupby("unit")[["truth", "correct"]].mean().loc[fit.units]
    inside = (fit.of_units.low <= units["truth"]) & (units["truth"] <= fit.of_units.high)
    # Of 120 intervals of 95 %, 6 ± 2.4 miss.
    assert inside.mean() >= 0.89
    error, raw = ((found - units["truth"]).pow(2).mean() for found in (fit.of_units.value, units["correct"]))
    assert error < 0.75 * raw
    assert fit.of_arm.low[0] < _marginal(np.array([1.0]), np.sqrt(1 + 0.49 + 1), 0.5)[0] < fit.of_arm.high[0]


def test_without_a_guess_rate_units_stand_as_in_statsmodels_variational_fit():
    table = simulated(20, 30, 10, seed=4, guess=0.0)
    fit = fit_crossed(table, guess=0.0)
    unit, units = pd.factorize(table["unit"])
    person, _people = pd.factorize(table["visit"])
    panel, _panels = pd.factorize(table["unit"] + table["batch"].astype(str))
    effects = [np.eye(codes.max() + 1)[codes] for codes in (unit, person, panel)]
    ident = np.repeat([0, 1, 2], [each.shape[1] for each in effects])
    model = BinomialBayesMixedGLM(table["correct"].to_numpy(float), np.ones((len(table), 1)), np.hstack(effects), ident)
    theirs = model.fit_vb(fit_method="L-BFGS-B", rng=1)
    centre = theirs.fe_mean[0] + theirs.vc_mean[: len(units)]
    spread = np.sqrt(np.exp(2 * theirs.vcp_mean[1]) + np.exp(2 * theirs.vcp_mean[2]))
    ours = pd.Series(fit.of_units.value, fit.units)[units].to_numpy()
    assert np.corrcoef(ours, _marginal(centre, spread, 0.0))[0, 1] > 0.98
    assert ours.mean() == pytest.approx(_marginal(centre, spread, 0.0).mean(), abs=0.02)


def test_a_unit_with_few_answers_is_drawn_further_towards_the_mean():
    table = simulated(30, 40, 20, seed=5)
    few = table[table["unit"] == "u0"].head(3).assign(unit="few", batch=[0, 1, 2], correct=False)
    many = pd.concat([few.assign(unit="many", visit=[f"v{place + 3 * times}" for place in range(3)]) for times in range(8)])
    fit = fit_crossed(pd.concat([table, few, many]))
    place = fit.units.get_indexer(pd.Index(["few", "many"]))
    # Both were always wrong.
    assert fit.of_units.value[place[0]] > fit.of_units.value[place[1]]


def test_all_right_is_high_and_not_certain():
    fit = fit_crossed(simulated(10, 12, 5, seed=6).assign(correct=True))
    assert np.isfinite(fit.of_units.value).all()
    assert (fit.of_units.value > 0.85).all() and (fit.of_units.low < 0.99).all() and (fit.of_units.high <= 1).all()


def test_all_wrong_stays_within_what_guessing_allows():
    fit = fit_crossed(simulated(10, 12, 5, seed=6).assign(correct=False))
    assert (fit.of_units.low >= 0.5).all() and (fit.of_units.value < 0.65).all()


def test_one_unit_or_one_participant_is_not_fitted():
    assert fit_crossed(TINY[TINY["unit"] == "a"]) is None
    assert fit_crossed(TINY[TINY["visit"] == "v1"]) is None


def test_the_tables_have_the_model_for_real_units_alone(finished, tmp_path):
    study, store, _run = finished
    plain = score(study, store)
    crossed = with_crossed(plain)
    assert plain.units["crossed"].isna().all()
    answered = crossed.units["responses"] > 0
    assert (crossed.units["crossed"].notna() == (answered & ~crossed.units["null"])).all()
    between = crossed.units["crossed"].dropna()
    low, high = (crossed.units.loc[between.index, name] for name in ("crossed_low", "crossed_high"))
    assert ((low < between) & (between < high)).all()
    natural, null, _synthetic = crossed.groups
    assert natural.crossed_low < natural.crossed < natural.crossed_high and natural.panel_sd > 0
    assert null.crossed is None
    units, models = (pd.read_csv(path) for path in tables.write(crossed, tmp_path))
    assert units["crossed"].notna().sum() == len(between)
    assert models["crossed"].notna().tolist() == [True, False, True]
