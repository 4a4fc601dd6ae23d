import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from crowd_imi.errors import VisionError
from crowd_imi.vision import embeddings
from crowd_imi.vision.embeddings import timm_extractor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 160, 160, 3), dtype=np.uint8)


def test_vectors_have_length_1(checkpoint, pixels):
    vectors = timm_extractor("timm:test_resnet", checkpoint, 5).embed(pixels)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_batch_gives_what_images_give_one_by_one(checkpoint, pixels):
    extractor = timm_extractor("timm:test_resnet", checkpoint, 5)
    singly = np.concatenate([extractor.embed(pixels[index : index + 1]) for index in range(len(pixels))])
    np.testing.assert_allclose(extractor.embed(pixels), singly, atol=1e-5)


def test_the_cosine_is_that_of_timms_own_features(checkpoint, pixels):
    # The network as timm makes it without a head, on images standardised by hand; they have its input's size already.
    model = timm.create_model("test_resnet", num_classes=5)
    extractor = timm_extractor("timm:test_resnet", checkpoint, 5)
    model.load_state_dict(extractor._module.state_dict())
    model.reset_classifier(0)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    assert model.pretrained_cfg["input_size"] == (3, 160, 160)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        features = model.eval()(images)
    expected = nn.functional.cosine_similarity(features[:1], features[1:]).numpy()
    vectors = extractor.embed(pixels)
    np.testing.assert_allclose(vectors[1:] @ vectors[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_other_families_have_a_vector_per_image(name, pixels, tmp_path):
    save_file(timm.create_model(name).state_dict(), tmp_path / "net.safetensors")
    vectors = timm_extractor(f"timm:{name}", tmp_path / "net.safetensors").embed(pixels[:2])
    assert vectors.shape[0] == 2 and vectors.ndim == 2


def test_the_digest_follows_the_weights(checkpoint, tmp_path):
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "other.safetensors")
    first, again, other = (
        timm_extractor("timm:test_resnet", path, 5) for path in (checkpoint, checkpoint, tmp_path / "other.safetensors")
    )
    assert first.digest == again.digest != other.digest
    assert re.fullmatch("[0-9a-f]{64}", first.digest)
    assert first.name == "timm:test_resnet"


def test_a_misspelt_network_gets_the_nearest_names():
    with pytest.raises(VisionError, match=r"no such model; near it: .*resnet50"):
        timm_extractor("timm:resnt50")


@pytest.mark.parametrize("name", ["resnet50", "lpips", "lucent:inceptionv1"])
def test_a_similarity_of_another_kind_is_unknown(name):
    with pytest.raises(VisionError, match=f"similarity '{name}' is unknown; write timm:NAME"):
        timm_extractor(name)


def test_weights_that_cannot_be_fetched_are_said(monkeypatch):
    def fail(*_arguments, **options):
        assert options["pretrained"]
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        VisionError, match=r"can't be had from the Hugging Face hub \(We couldn't connect to the hub\); .*checkpoint"
    ):
        timm_extractor("timm:test_resnet")


def test_another_number_of_classes_is_said(checkpoint):
    with pytest.raises(VisionError, match="Set classes = 5"):
        timm_extractor("timm:test_resnet", checkpoint)


def test_a_network_without_pooled_features_is_refused(checkpoint):
    model = timm_extractor("timm:test_resnet", checkpoint, 5)._model
    other = type(model)(nn.Flatten(), "own:net", 8, model.mean, model.std, "0" * 64, model.device)
    with pytest.raises(VisionError, match="own:net: only networks of timm's"):
        embeddings.TimmExtractor(other)


def test_maps_instead_of_a_vector_are_refused(checkpoint, pixels, monkeypatch):
    extractor = timm_extractor("timm:test_resnet", checkpoint, 5)
    monkeypatch.setattr(extractor._module, "forward_head", lambda features, pre_logits: features)
    with pytest.raises(VisionError, match="no single vector per image"):
        extractor.embed(pixels)
