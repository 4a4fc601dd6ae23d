import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection
from crowd_imi.vision.models import load_model


def section(**keys):
    return ModelSection(**{"source": "timm:test_resnet", "layers": ("layer1.0.conv1",), "classes": 5, **keys})


def checkpoint(path, prefix="", **options):
    model = timm.create_model("test_resnet", **options)
    save_file({prefix + name: tensor for name, tensor in model.state_dict().items()}, path)
    return path


def test_random_weights_follow_the_seed(tmp_path):
    first, again, other = (load_model(section(), tmp_path, seed) for seed in (1, 1, 2))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256


def test_making_random_weights_leaves_the_callers_randomness_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_model(section(), tmp_path, 1)
    assert torch.rand(1) == expected


def test_a_checkpoints_weights_are_taken(tmp_path):
    checkpoint(tmp_path / "a.safetensors", num_classes=5)
    a = load_model(section(checkpoint="a.safetensors"), tmp_path, 1)
    b = load_model(section(checkpoint="a.safetensors"), tmp_path, 2)
    assert a.weights_sha256 == b.weights_sha256 != load_model(section(), tmp_path, 1).weights_sha256


def test_names_that_a_training_framework_wrapped_are_unwrapped(tmp_path):
    checkpoint(tmp_path / "wrapped.safetensors", prefix="module.model.", num_classes=5)
    load_model(section(checkpoint="wrapped.safetensors"), tmp_path, 1)


def test_a_model_is_ready_to_be_recorded(tmp_path):
    model = load_model(section(input_size=48), tmp_path, 1)
    assert not model.module.training and model.input_size == 48
    assert not any(getattr(module, "inplace", False) for module in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_input_size_mean_and_deviation_come_from_timm_where_the_study_is_silent(tmp_path):
    model = load_model(section(), tmp_path, 1)
    assert (model.input_size, model.mean, model.std) == (160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_transformer_is_built_for_the_studys_input_size(tmp_path):
    model = load_model(section(source="timm:test_vit", input_size=32), tmp_path, 1)
    assert model.module(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_an_unknown_architecture_is_answered_with_near_ones(tmp_path):
    with pytest.raises(VisionError, match=r"timm:resnet51'.*near it: .*resnet5"):
        load_model(section(source="timm:resnet51"), tmp_path, 1)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(VisionError, match=r"gone\.safetensors: there is no checkpoint here"):
        load_model(section(checkpoint="gone.safetensors"), tmp_path, 1)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(VisionError, match=r"bad\.safetensors: this can't be read as a safetensors file"):
        load_model(section(checkpoint="bad.safetensors"), tmp_path, 1)


def test_weights_of_another_architecture_are_refused_with_the_first_differences(tmp_path):
    vit = timm.create_model("test_vit", num_classes=5)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(VisionError, match=r"aren't the weights of timm:test_resnet: .* is missing; .* more\. Correct source"):
        load_model(section(checkpoint="vit.safetensors"), tmp_path, 1)


def test_only_another_number_of_classes_is_answered_with_the_number_that_fits(tmp_path):
    checkpoint(tmp_path / "seven.safetensors", num_classes=7)
    with pytest.raises(VisionError, match=r"Set classes = 7"):
        load_model(section(checkpoint="seven.safetensors"), tmp_path, 1)


def test_pretrained_weights_that_cannot_be_had_are_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(VisionError, match="can't be had from the Hugging Face hub"):
        load_model(section(source="timm:test_resnet.r160_in1k", pretrained=True), tmp_path, 1)
