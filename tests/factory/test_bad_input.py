"""What a person gets wrong before ``render``: one clear line, status 1, nothing half-written; mended, it goes on."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.factory import looker
from crowd_imi.factory.running import alone
from crowd_imi.pack import Pack
from crowd_imi.study import Study
from tests.factory.conftest import STUDY_TOML, write_pictures
from tests.tiny import write_study

LAYERS = 'layers = ["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]'


def told(study: Study) -> str:
    """The one line that ``render`` ends with."""
    done = CliRunner().invoke(app, ["render", str(study.folder)], prog_name="crowd-imi")
    assert done.exit_code == 1, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "Traceback" not in done.stderr and done.stdout == ""
    assert not (study.pack / "manifest.json").exists()
    return errors[0].removeprefix("error: ")


def study_with(folder: Path, old: str = "", new: str = "", images: int = 130) -> Study:
    study = write_study(folder, STUDY_TOML.replace(old, new) if old else STUDY_TOML)
    write_pictures(study.images, images)
    return study


def test_an_unknown_layer_comes_with_the_nearest_names(tmp_path):
    line = told(study_with(tmp_path, LAYERS, 'layers = ["layer2.0.conv9"]'))
    assert line.startswith("layers = ['layer2.0.conv9']: the model has no such layer; the nearest names are layer2.0.conv")


def test_a_channel_out_of_range_comes_with_the_range(tmp_path):
    units = [f"layer2.0.conv1/{channel}" for channel in range(43, 49)]  # six, as an arm asks for
    line = told(study_with(tmp_path, LAYERS, f"units = {units}"))
    assert line == "models.net.units: 'layer2.0.conv1/48': channels of layer2.0.conv1 go from 0 to 47; correct the number"


def test_a_checkpoint_of_another_architecture_comes_with_what_does_not_fit(tmp_path):
    save_file(timm.create_model("test_vit", num_classes=5).state_dict(), tmp_path / "other.safetensors")
    line = told(study_with(tmp_path, LAYERS, f'{LAYERS}\ncheckpoint = "other.safetensors"'))
    assert line.startswith(f"{tmp_path / 'other.safetensors'}: these aren't the weights of timm:test_resnet: ")


def test_three_images_come_with_how_many_are_needed(tmp_path):
    line = told(study_with(tmp_path, images=3))
    assert line.startswith(f"{tmp_path / 'images'}: 3 usable images, and this study's panels need 120; add images")


def test_no_room_on_the_gpu_comes_with_what_to_do(tmp_path, monkeypatch):
    def full(pixels, model):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(looker, "to_input", full)
    line = told(study_with(tmp_path))
    assert line.startswith("timm:test_resnet: the GPU's memory is too small even for one image; free it, or")


def test_a_full_disk_comes_with_the_file_and_the_next_run_goes_on(tmp_path):
    """A limit on the size of files stands for a disk that is full: writing ends with an error of the same kind.

    130 images × 10 recorded units × 4 bytes are 5.2 kB of columns; the manifest is the largest file, of some hundred kB.
    """
    study = study_with(tmp_path)
    for limit, where in ((2_000, "recordings"), (120_000, "pack")):
        line = told_when_files_end_at(limit, study)
        assert line.startswith(f"error: {study.folder / where}/") and line.endswith("and run the same command again")
        assert not (study.pack / "manifest.json").exists()
    again = CliRunner().invoke(app, ["render", str(study.folder)])
    assert again.exit_code == 0, again.stderr
    assert list(Pack(study.pack).damage()) == []


def told_when_files_end_at(limit: int, study: Study) -> str:
    """The one line that ``render`` ends with, where no file may get longer than so many bytes."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "crowd_imi", "render", str(study.folder)]
    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert done.returncode == 1 and done.stdout == ""
    return line


def test_the_studys_own_folder_is_no_folder_of_images(tmp_path):
    line = told(study_with(tmp_path, 'folder = "images"', 'folder = "."'))
    assert line.startswith("images.folder = '.': the study itself is in there")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys\nsys.exit(0)", "source = 'mine:make': importing mine failed (SystemExit: 0); mend it first"),
        (
            "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        raise RuntimeError('boom')\n"
            "def make():\n    print('hello')\n    net = Net()\n    net.conv = nn.Conv2d(3, 8, 3)\n    return net",
            "the network can't look at an image of 32 × 32 pixels in float32 (RuntimeError: boom); correct input_size, or mend "
            "the network",
        ),
    ],
)
def test_a_network_of_ones_own_that_fails_is_told_in_one_line(tmp_path, code, expected):
    (tmp_path / "mine.py").write_text(code)
    old = 'source = "timm:test_resnet"\nlayers = ["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]\nclasses = 5'
    assert told(study_with(tmp_path, old, 'source = "mine:make"\nlayers = ["conv"]')) == expected


def test_two_renders_of_one_study_do_not_run_at_once(tmp_path):
    study = study_with(tmp_path)
    with alone(study.recordings / ".lock"):
        assert told(study).startswith(f"{tmp_path}: another `crowd-imi render` of this study is at work; wait until")
