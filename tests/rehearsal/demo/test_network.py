import numpy as np
import pytest

from crowd_imi.rehearsal.demo.network import PHASES, Phase, section, train
from crowd_imi.rehearsal.demo.photographs import DemoImages, LabelledImages, Region
from crowd_imi.vision.models import load_model

SHORT = (Phase(steps=3, batch=8, crop=16), Phase(steps=12, batch=8, crop=32))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two "photographs" that differ in colour, red and blue with noise."""
    rng = np.random.default_rng(0)

    def labelled(count, size):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 60, (count, size, size, 3), dtype=np.uint8)
        pixels[np.arange(count), :, :, 2 * labels] += 150
        return LabelledImages(pixels, labels.astype(np.int64), tuple(Region("x", 0, 0, 1) for _ in range(count)))

    folder = tmp_path_factory.mktemp("images")
    return DemoImages(folder, 32, ("red", "blue"), (), labelled(6, 64), labelled(10, 32))


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("net") / "trained.safetensors"
    return train(images, checkpoint, 1, phases=SHORT), checkpoint


def test_the_network_learns_to_tell_photographs_apart(trained):
    training, _ = trained
    assert training.steps == 15 and training.classes == 2
    assert training.training_accuracy == training.held_out_accuracy == 1.0


def test_the_checkpoint_is_the_trained_network(trained, tmp_path):
    _, checkpoint = trained
    model = load_model(section(2, 32, checkpoint), tmp_path, 1)
    untrained = load_model(section(2, 32), tmp_path, 1)
    assert model.weights_sha256 != untrained.weights_sha256


def test_the_same_seed_trains_the_same_network(images, trained, tmp_path):
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    short = (Phase(steps=2, batch=4, crop=16),)
    train(images, one, 1, phases=short)
    train(images, two, 1, phases=short)
    train(images, other, 2, phases=short)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_progress_counts_steps(images, tmp_path):
    told = []

    def track(things, what, total=None):
        told.append((what, total))
        return iter(things)

    train(images, tmp_path / "net", 1, track, phases=(Phase(steps=1, batch=4, crop=16),))
    assert told == [("training the demo's network", 1)]


def test_training_is_small_enough_for_two_cores():
    # 9,600 crops, half of them a quarter of the size: about a minute.
    assert sum(phase.steps * phase.batch * phase.crop**2 for phase in PHASES) <= 25_000_000
