"""``predict``: what a machine makes of the panels, before any money is spent."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal
from crowd_imi.records import Record

if TYPE_CHECKING:
    from crowd_imi.pack import Pack
    from crowd_imi.scoring.agreement import Machine
    from crowd_imi.scoring.machine import Predictions
    from crowd_imi.study import Study

DEFAULT = "timm:vit_small_patch16_224.dino"

SimilarityName = Annotated[
    str,
    typer.Option("--similarity", metavar="timm:NAME", help="Compare images by the pooled features of this timm network."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="The network's weights; without, the published ones are fetched."),
]
Classes = Annotated[int | None, typer.Option(metavar="N", min=1, help="Classes of the checkpoint, if not the network's own.")]


class Predicted(Record):
    """What ``predict --json`` prints."""

    similarity: str
    similarity_sha256: str
    images: int
    """Images in the panels, each embedded once."""
    predictions_csv: Path
    panels_csv: Path
    groups: tuple[dict[str, Any], ...]
    """Each as ``scoring.machine.PredictedGroup``."""
    alpha: dict[str, Any] | None
    """α fitted to people's answers, as ``scoring.alpha.Alpha``; null before there are any."""
    agreement: tuple[dict[str, Any], ...]
    """Each as ``scoring.agreement.Agreement``."""
    caution: str
    """What these figures must not be used for."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(  # noqa: PLR0913, PLR0917 - one parameter per option
    study: StudyFolder,
    similarity: SimilarityName = DEFAULT,
    checkpoint: Checkpoint = None,
    classes: Classes = None,
    rehearsal: Rehearsal = None,
    as_json: Json = False,
) -> None:
    """How often a perceptual similarity finds the right query, before any money is spent: report/predictions.csv.

    Once there are answers, also how strongly it has to be taken to answer as people do (α), and how far it agrees with them.
    """
    from crowd_imi.cli.group_table import machine_table
    from crowd_imi.pack import Pack
    from crowd_imi.scoring import machine
    from crowd_imi.study import load_study

    output = Output(as_json)
    if classes is not None and checkpoint is None:
        raise typer.BadParameter("give --checkpoint, too", param_hint="--classes")
    loaded = load_study(study)
    pack = Pack(loaded.pack)  # before torch, which takes seconds to load
    from crowd_imi.vision.embeddings import timm_extractor

    predictions = machine.predict(loaded, pack, timm_extractor(similarity, checkpoint, classes), output.track)
    units, panels = machine.write(predictions, loaded.folder / "report")
    output.say(machine_table(predictions.groups, predictions.similarity))
    held = _against_people(loaded, pack, predictions, rehearsal)
    if held:
        output.say("\n" + "\n".join([held.sentence, *(one.sentence for one in held.agreements)]))
    output.say(f"\n{machine.SELECTED}\n\nunits:  {units}\npanels: {panels}")
    output.result(
        Predicted(
            similarity=predictions.similarity,
            similarity_sha256=predictions.similarity_sha256,
            images=predictions.images,
            predictions_csv=units,
            panels_csv=panels,
            groups=tuple(group.model_dump() for group in predictions.groups),
            alpha=asdict(held.alpha) if held and held.alpha else None,
            agreement=tuple(one.model_dump() for one in held.agreements) if held else (),
            caution=machine.SELECTED,
        )
    )


def _against_people(study: "Study", pack: "Pack", predictions: "Predictions", rehearsal: str | None) -> "Machine | None":
    """The predictions held against the answers that there are; None before there are any to these panels."""
    from crowd_imi.cli.run_folder import run_folder
    from crowd_imi.errors import ScoringError
    from crowd_imi.scoring import score
    from crowd_imi.scoring.agreement import machine_against_people
    from crowd_imi.scoring.reliability import reliabilities
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls

    folder = run_folder(study, rehearsal)
    if rehearsal is None and not study.database.exists():
        return None
    store = Store.open(*database_urls(folder))
    if store.about("pack_sha256") != pack.digest:
        return None
    try:
        scores = score(study, store)
    except ScoringError:  # nobody has been judged yet
        return None
    reliable = reliabilities(scores, study.file.study.seed)
    return machine_against_people(scores, predictions.similarity, predictions.panels, reliable, study.file.study.seed)
