"""A small study on smooth random pictures, and its pack, rendered once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowd_imi.factory.render import render
from crowd_imi.study import Study
from tests.tiny import write_study

STUDY_TOML = """\
schema = 1

[study]
name = "small"
title = "A small study"
seed = 3

[images]
folder = "images"
licence = "CC0"

[models.net]
source = "timm:test_resnet"
layers = ["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]
classes = 5
input_size = 32

[[arms]]
model = "net"
condition = "natural"
units = 6
null = 3
responses = 2

[[arms]]
model = "net"
condition = "natural"
difficulty = "very_hard"
units = 6
responses = 1

[[arms]]
model = "net"
condition = "synthetic"
units = 2
null = 1
responses = 2

[panels]
batches = 2
image_size = 32

[visualisation]
size = 32
procedure = "fixed"
steps = 2
diversity = 1.0

[tasks]
trials = 3
catch = 1

[exclusion]
min_row_choices = 1

[pages]
contact = "lab@example.org"
investigator = "The lab"
institution = "The institute"

[pay]
cap = 50000
"""

COUNT = 130
"""Usable images; very hard panels of 2 batches need 9·2 / 0.15 = 120."""


def write_pictures(folder: Path, count: int = COUNT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Study:
    """A study whose pack is there; one of its files is no image, and one is a copy of another."""
    study = write_study(tmp_path_factory.mktemp("factory"), STUDY_TOML)
    write_pictures(study.images)
    (study.images / "broken.png").write_bytes(b"no image")
    (study.images / "copy.png").write_bytes((study.images / "007.png").read_bytes())
    render(study)
    return study
