"""Machine MIS before anybody has answered: how well a perceptual similarity tells a unit's queries apart.

For one panel with queries q⁺ and q⁻ and reference sets E⁺ and E⁻, and s the cosine, averaged over the references of a set:

    Δ = [s(q⁺, E⁺) − s(q⁺, E⁻)] − [s(q⁻, E⁺) − s(q⁻, E⁻)]

Source: Measuring Mechanistic Interpretability at Scale Without Humans (2024), https://brendel-group.github.io/mis/;
DreamSim is the similarity there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack
from crowd_imi.progress import Track, silent
from crowd_imi.records import Condition, Difficulty, Panel, Record
from crowd_imi.scoring.embeddings import Similarity, Vectors, embed
from crowd_imi.scoring.intervals import Estimate, bootstrap_mean, wilson
from crowd_imi.seeds import generator
from crowd_imi.study import NULL, Study

SELECTED = (
    "Units chosen by these figures are selected units: their mean isn't the model's, so report it for all sampled units, "
    "or draw new ones."
)

UNIT_COLUMNS: dict[str, str] = {
    "arm": "The arm: model, condition and difficulty.",
    "model": "The network.",
    "layer": "Module name of the layer.",
    "channel": "Channel of the layer, from 0.",
    "null": "true for a null unit, which nobody can answer above chance.",
    "condition": "References: natural (dataset examples) or synthetic (feature visualisations).",
    "difficulty": "How extreme the query images are.",
    "unit": "Key of the unit: model/layer/channel, with ~null behind it for a null unit.",
    "panels": "Panels of the unit in the pack.",
    "above": "How many of them have Δ > 0.",
    "share": "above / panels; 0.5 is chance.",
    "low": "Lower end of its 95 % Wilson interval.",
    "high": "Upper end of it.",
    "delta": "Mean Δ over the panels; 0 is chance, positive speaks for the right query.",
    "similarity": "What the images were compared by.",
    "pack_sha256": "Digest of the pack that they are in.",
}

PANEL_COLUMNS: dict[str, str] = {
    "arm": "The arm.",
    "unit": "Key of the unit.",
    "batch": "Which of the unit's panels.",
    "delta": "Δ of the panel.",
}


class PredictedGroup(Record):
    """The units of an arm, or the null units of all arms of one condition and difficulty."""

    model: str
    """A model of study.toml, or ``null`` for the null units."""
    condition: Condition
    difficulty: Difficulty
    arm: str
    """The arm; for null units that come from several arms, all of them joined by " + "."""
    units: int
    panels: int
    share: float
    """Mean over units of the share of panels with Δ > 0; 0.5 is chance."""
    share_low: float | None
    """Ends of the 95 % bootstrap interval over units; None for a single unit."""
    share_high: float | None
    delta: float
    """Mean over units of the mean Δ."""
    delta_low: float | None
    delta_high: float | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a similarity makes of a pack."""

    similarity: str
    similarity_sha256: str
    images: int
    panels: pd.DataFrame
    """One row per panel, unrounded; columns as in ``PANEL_COLUMNS``."""
    units: pd.DataFrame
    """One row per (arm, unit), unrounded; columns as in ``UNIT_COLUMNS``, in the pack's order."""
    groups: tuple[PredictedGroup, ...]
    """Arms as in the pack, then null units."""


def panel_delta(panel: Panel, vectors: Vectors) -> float:
    """Δ of one panel.

    Args:
        panel: its queries and references.
        vectors: of its images, each of length 1.

    Returns:
        In [−4, 4]; above 0 the query that drives the unit is the likelier one.
    """
    # Of unit vectors the cosine is linear, so the mean over references may be taken first, and the four terms together.
    query = _vector(panel.queries.max.image, vectors) - _vector(panel.queries.min.image, vectors)
    maxima, minima = (
        np.mean([_vector(exemplar.image, vectors) for exemplar in side], axis=0)
        for side in (panel.references.max, panel.references.min)
    )
    return float(query @ (maxima - minima))


def predict(study: Study, pack: Pack, similarity: Similarity, track: Track = silent) -> Predictions:
    """Δ of every panel of a pack, and what follows for units and arms.

    Args:
        study: where embeddings are kept; its seed draws the bootstrap.
        pack: its panels; those that people see, catch trials aside.
        similarity: compares the images.
        track: shows how embedding is getting on.

    Raises:
        PackError: an image is missing or was changed.
        ScoringError: the similarity gives no usable vectors.
    """
    images = list(dict.fromkeys(_shown(pack)))
    vectors = embed(pack, images, similarity, study.embeddings, track)
    panels = pd.DataFrame(
        [
            (arm.arm, entry.unit.key, panel.batch, panel_delta(panel, vectors))
            for arm in pack.manifest.arms
            for entry in arm.units
            for panel in entry.panels
        ],
        columns=list(PANEL_COLUMNS),
    )
    units = _unit_table(pack, panels, similarity.name)
    return Predictions(similarity.name, similarity.digest, len(images), panels, units, groups_of(units, pack.manifest.seed))


def groups_of(units: pd.DataFrame, seed: int) -> tuple[PredictedGroup, ...]:
    """Arms in the order of the table, then null units; each with its intervals.

    Args:
        units: columns as in ``UNIT_COLUMNS``.
        seed: draws the bootstrap.
    """
    return tuple(_group(seed, members) for members in _grouped(units))


def write(predictions: Predictions, folder: Path) -> tuple[Path, Path]:
    """Write predictions.csv, predictions_panels.csv and predictions.md, which says what their columns mean.

    Returns:
        The paths of the two tables.
    """
    units, panels = folder / "predictions.csv", folder / "predictions_panels.csv"
    table = predictions.units.round({"share": 4, "low": 4, "high": 4, "delta": 6})
    table = table.assign(null=table["null"].map({True: "true", False: "false"}))
    write_atomically(units, table.to_csv(index=False, lineterminator="\n").encode())
    write_atomically(panels, predictions.panels.round({"delta": 6}).to_csv(index=False, lineterminator="\n").encode())
    write_atomically(folder / "predictions.md", _data_sheet(predictions).encode())
    return units, panels


def _vector(image: str, vectors: Vectors) -> NDArray[np.float64]:
    return vectors[image].astype(np.float64)


def _shown(pack: Pack) -> Iterator[str]:
    """The images of all panels; extremes, which only catch trials show, aren't among them."""
    for panel in (panel for arm in pack.manifest.arms for entry in arm.units for panel in entry.panels):
        for exemplar in (*panel.references.min, *panel.references.max, panel.queries.min, panel.queries.max):
            yield exemplar.image


def _unit_table(pack: Pack, panels: pd.DataFrame, similarity: str) -> pd.DataFrame:
    described = [
        {
            **entry.unit.model_dump(),
            "arm": arm.arm,
            "condition": arm.condition,
            "difficulty": arm.difficulty,
            "unit": entry.unit.key,
            "similarity": similarity,
            "pack_sha256": pack.digest,
        }
        for arm in pack.manifest.arms
        for entry in arm.units
    ]
    by_unit = ["arm", "unit"]
    found = panels.assign(above=panels["delta"] > 0).groupby(by_unit)
    figures = found.agg(panels=("delta", "size"), above=("above", "sum"), share=("above", "mean"), delta=("delta", "mean"))
    table = pd.DataFrame(described).join(figures, on=by_unit)
    table["low"], table["high"] = wilson(table["above"].to_numpy(), table["panels"].to_numpy())
    return table[list(UNIT_COLUMNS)]


def _grouped(units: pd.DataFrame) -> Iterator[pd.DataFrame]:
    real, null = units[~units["null"]], units[units["null"]]
    yield from (members for _arm, members in real.groupby("arm", sort=False))
    yield from (members for _setting, members in null.groupby(["condition", "difficulty"], sort=False))


def _group(seed: int, members: pd.DataFrame) -> PredictedGroup:
    first = members.iloc[0]
    model = NULL if first["null"] else str(first["model"])

    def over_units(column: str) -> Estimate:
        rng = generator(seed, "bootstrap", "machine", model, first["condition"], first["difficulty"], column)
        return bootstrap_mean(members[column].to_numpy(np.float64), rng)

    share, delta = over_units("share"), over_units("delta")
    return PredictedGroup(
        model=model,
        condition=first["condition"],
        difficulty=first["difficulty"],
        arm=" + ".join(dict.fromkeys(members["arm"])),
        units=len(members),
        panels=int(members["panels"].sum()),
        share=share.mean,
        share_low=share.low,
        share_high=share.high,
        delta=delta.mean,
        delta_low=delta.low,
        delta_high=delta.high,
    )


def _data_sheet(predictions: Predictions) -> str:
    def section(name: str, columns: dict[str, str]) -> str:
        rows = "\n".join(f"| {column} | {meaning} |" for column, meaning in columns.items())
        return f"# {name}\n\n| column | meaning |\n|---|---|\n{rows}\n"

    made = f"Made with {predictions.similarity} (SHA-256 {predictions.similarity_sha256}). {SELECTED}\n"
    return "\n".join([section("predictions.csv", UNIT_COLUMNS), section("predictions_panels.csv", PANEL_COLUMNS), made])
