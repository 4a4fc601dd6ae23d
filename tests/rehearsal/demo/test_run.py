"""What the demo keeps between runs; ``tests/acceptance/test_demo.py`` runs the chain."""

import pytest

from crowd_imi.errors import StudyError
from crowd_imi.rehearsal.demo import run
from crowd_imi.rehearsal.demo.network import Training
from crowd_imi.rehearsal.demo.run import begin_study, full_scale, trained

TRAINING = Training(steps=1, seconds=1.0, training_accuracy=1.0, held_out_accuracy=0.5, classes=16)


def test_a_study_is_begun_with_the_seed_and_found_again(tmp_path):
    assert begin_study(tmp_path / "demo", 3, full_scale().toml).file.study.seed == 3
    assert begin_study(tmp_path / "demo", 3, full_scale().toml).file.study.seed == 3


def test_the_demo_with_another_seed_needs_another_folder(tmp_path):
    begin_study(tmp_path, 3, full_scale().toml)
    with pytest.raises(StudyError, match="another study, or the demo with another seed"):
        begin_study(tmp_path, 4, full_scale().toml)


def test_the_network_is_trained_once_and_anew_when_its_weights_are_gone(tmp_path, monkeypatch):
    study = begin_study(tmp_path, 1, full_scale().toml)
    made = []

    def train(images, checkpoint, seed, track, *, phases):
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_bytes(b"weights")
        made.append(checkpoint)
        return TRAINING

    monkeypatch.setattr(run, "train", train)
    for _ in range(2):
        assert trained(None, study, 1) == TRAINING
    assert len(made) == 1
    made[0].unlink()
    trained(None, study, 1)
    assert len(made) == 2
