"""``predict`` on a rendered pack, with a random network for similarity: it stands for weights that would have to be fetched."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.factory.render import render
from crowd_imi.pack import Pack
from crowd_imi.study import load_study
from tests.factory.conftest import STUDY_TOML, write_pictures
from tests.tiny import write_study


def run(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


@pytest.fixture(scope="module")
def predicted(rendered, tmp_path_factory):
    """A copy of the rendered study, the options of its similarity, and what ``predict --json`` printed."""
    folder = tmp_path_factory.mktemp("predicted")
    shutil.copytree(rendered.folder, folder / "study")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), folder / "net.safetensors")
    options = ["--similarity", "timm:test_resnet", "--checkpoint", folder / "net.safetensors", "--classes", "5"]
    done = run(folder / "study", *options, "--json")
    assert done.exit_code == 0, done.stderr
    return load_study(folder / "study"), options, json.loads(done.stdout)


def test_arms_come_in_order_and_null_units_apart(predicted):
    _study, _options, document = predicted
    assert [(group["arm"], group["model"], group["units"]) for group in document["groups"]] == [
        ("net-natural-easy", "net", 6),
        ("net-natural-very_hard", "net", 6),
        ("net-synthetic-easy", "net", 2),
        ("net-natural-easy", "null", 3),
        ("net-synthetic-easy", "null", 1),
    ]
    assert document["similarity"] == "timm:test_resnet"
    assert document["groups"][-1]["share_low"] is None  # a single unit says nothing of how units differ


def test_the_csv_has_a_row_per_unit_of_the_pack(predicted):
    study, _options, document = predicted
    table = pd.read_csv(document["predictions_csv"])
    assert Path(document["predictions_csv"]) == study.folder / "report" / "predictions.csv"
    manifest = Pack(study.pack).manifest
    assert list(table["unit"]) == [entry.unit.key for arm in manifest.arms for entry in arm.units]
    assert (table["panels"] == 2).all()
    assert table["similarity"].unique() == ["timm:test_resnet"]


def test_null_units_are_at_chance_and_real_ones_above(tmp_path, predicted):
    # Colours and frequencies drive even a random network's units, and another random network sees them. A null unit's
    # panel is a coin toss: of 60 panels 30 ± 3.9, so the limits are three deviations away.
    head, arm, *_others = STUDY_TOML.split("[[arms]]")
    arm = arm.replace("units = 6\nnull = 3", "units = 18\nnull = 30")
    rest = STUDY_TOML[STUDY_TOML.index("[panels]") :].replace("min_row_choices = 1", "min_row_choices = 0")
    study = write_study(tmp_path, head + "[[arms]]" + arm + rest)
    write_pictures(study.images)
    render(study)
    done = run(study.folder, *predicted[1], "--json")
    real, null = json.loads(done.stdout)["groups"]
    assert (real["units"], null["units"], null["panels"]) == (18, 30, 60)
    assert 0.3 < null["share"] < 0.7
    assert null["delta_low"] < 0 < null["delta_high"]
    assert real["share_low"] > 0.55 and real["delta_low"] > 0


def test_a_second_run_says_the_same_to_a_person_and_embeds_nothing(predicted, monkeypatch):
    study, options, document = predicted

    def fail(*_arguments):
        raise AssertionError("an image was embedded again")

    monkeypatch.setattr("crowd_imi.vision.embeddings.TimmExtractor.embed", fail)
    done = run(study.folder, *options)
    assert done.exit_code == 0, done.stderr
    assert "null units" in done.stdout and "their mean isn't the model's" in done.stdout
    assert document["caution"] in done.stdout
    assert str(document["predictions_csv"]) in done.stdout


def test_a_study_without_a_pack_is_said(predicted, tmp_path):
    study, options, _document = predicted
    shutil.copy(study.toml, tmp_path)
    done = run(tmp_path, *options)
    assert done.exit_code == 1
    assert "there is no pack here; make one with `crowd-imi render" in done.stderr


def test_a_misspelt_similarity_gets_the_nearest_names(predicted):
    done = run(predicted[0].folder, "--similarity", "timm:resnt50")
    assert done.exit_code == 1
    assert "near it: " in done.stderr and "resnet50" in done.stderr


def test_classes_without_a_checkpoint_are_a_wrong_call(predicted):
    done = run(predicted[0].folder, "--classes", "5")
    assert done.exit_code == 2 and "give --checkpoint, too" in done.stderr
