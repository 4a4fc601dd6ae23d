"""What the demo says when it is over."""

from pathlib import Path

from crowd_imi.records import Record
from crowd_imi.scoring.machine import PredictedGroup
from crowd_imi.scoring.mis import Group

NOTE = (
    "This is the demo: a tiny network, crops of 64 pixels and simulated participants. "
    "Its figures can't be compared with published ones. The machine is its own trained network, as it has no other."
)


class Demo(Record):
    """What ``crowd-imi demo`` made, and where it lies."""

    study: Path
    report: Path
    units_csv: Path
    models_csv: Path
    gallery: Path
    seed: int
    seconds: float
    """Wall time of the whole chain."""
    steps: dict[str, float]
    """Wall time of each step, in seconds."""
    training_accuracy: float
    """On the photographs' regions that the network was trained on."""
    held_out_accuracy: float
    """On regions that it has never seen."""
    participants: int
    mismatches: tuple[str, ...]
    """Troublemakers who didn't end as they should; empty when all is well."""
    groups: tuple[Group, ...]
    predicted: tuple[PredictedGroup, ...]
    """What the trained network, as a machine participant, made of the same panels."""
