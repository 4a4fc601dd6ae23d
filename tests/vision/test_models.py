import logging
import subprocess
import sys

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection
from crowd_imi.vision.layers import describe_layers, unit_layers, watched
from crowd_imi.vision.models import load_model, outline, weights_sha256
from crowd_imi.vision.preprocess import to_input
from crowd_imi.vision.published import layer_globs


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


def test_input_size_mean_and_deviation_of_the_study_stand_before_the_models(tmp_path):
    model = load_model(section(input_size=32, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)), tmp_path, 1)
    assert (model.input_size, model.mean, model.std) == (32, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    white = to_input(np.full((1, 48, 48, 3), 255, dtype=np.uint8), model)
    # (1 − 0.1) / 1, (1 − 0.2) / 2, (1 − 0.3) / 4
    assert white[0, :, 5, 5].tolist() == pytest.approx([0.9, 0.4, 0.175])


# --- lucent


def googlenet(**keys):
    return ModelSection(**{"source": "lucent:inceptionv1", "layers": ("mixed*_pre_relu_conv",), **keys})


def test_lucents_inceptionv1_has_1008_outputs_and_its_own_preprocessing(tmp_path):
    model = load_model(googlenet(), tmp_path, 1)
    pixels = np.arange(0, 256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    pixels = pixels.repeat(14, 1).repeat(14, 2)
    inputs = to_input(pixels, model)
    # x · 255 − 117 for x in 0–1 is the stored value less 117.
    assert torch.allclose(inputs, torch.from_numpy(pixels).permute(0, 3, 1, 2) - 117.0, atol=1e-3)
    with torch.inference_mode():
        assert model.module(inputs).shape == (1, 1008)
    assert model.weights_sha256 == load_model(googlenet(), tmp_path, 1).weights_sha256


def test_no_relu_of_inceptionv1_spoils_what_is_recorded(tmp_path):
    model = load_model(googlenet(), tmp_path, 1)
    name = "mixed3a_1x1_pre_relu_conv"
    outputs = {}
    with torch.inference_mode(), watched(model.module, (name,), outputs.__setitem__):
        model.module(torch.randn(1, 3, 224, 224) * 60)
    # Kept without a copy and looked at after the pass: what is negative before the ReLU still is.
    assert outputs[name].min() < 0


def test_inceptionv1_takes_a_checkpoint(tmp_path):
    weights = outline(googlenet()).to_empty(device="cpu").state_dict()
    state = {key: torch.full_like(tensor, 0.01) for key, tensor in weights.items()}
    torch.save(state, tmp_path / "inception5h.pth")
    model = load_model(googlenet(source="imi:googlenet", checkpoint="inception5h.pth"), tmp_path, 1)
    assert all((tensor == 0.01).all() for tensor in model.module.state_dict().values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"input_size": 299}, "lucent:inceptionv1: it looks at images of 224 pixels; take input_size = 299 out"),
        ({"classes": 10}, "source = 'lucent:inceptionv1': classes can be set only for timm's networks; take it out"),
    ],
)
def test_what_inceptionv1_cannot_be_told_is_refused(tmp_path, keys, message):
    with pytest.raises(VisionError, match=message):
        load_model(googlenet(**keys), tmp_path, 1)


def test_inceptionv1s_published_weights_come_from_lucents_address_and_are_read_without_running_code(tmp_path, monkeypatch):
    from crowd_imi.vision import inception

    served = tmp_path / "inception5h.pth"
    state = {key: torch.full_like(t, 0.02) for key, t in inception.InceptionV1().state_dict().items()}
    torch.save(state, served)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(inception.model_urls, "inceptionv1", served.as_uri())
    fetched = load_model(googlenet(pretrained=True), tmp_path, 1).module.state_dict()
    assert all((tensor == 0.02).all() for tensor in fetched.values())
    monkeypatch.setitem(inception.model_urls, "inceptionv1", (tmp_path / "gone.pth").as_uri())
    with pytest.raises(VisionError, match=r"can't be had from file:.*gone\.pth .*name it as checkpoint"):
        load_model(googlenet(pretrained=True), tmp_path, 1)


def test_lucent_is_imported_only_for_its_own_network_and_warns_of_nothing():
    code = (
        "import sys; from pathlib import Path; from crowd_imi.study import ModelSection; "
        "from crowd_imi.vision.models import outline; "
        "outline(ModelSection(source='timm:test_resnet', layers=('conv1',))); assert 'lucent' not in sys.modules; "
        "outline(ModelSection(source='imi:googlenet')); assert 'lucent' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# --- functions of one's own

NETWORKS = """\
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())

class Net(nn.Module):
    default_cfg = {"input_size": (3, 40, 40), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.conv(images)

def number():
    return 7

def needy(width):
    return nn.Conv2d(3, width, 3)

CONSTANT = 3

def scripted():
    return torch.jit.script(make())

def on_meta():
    with torch.device("meta"):
        return make()

def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3))

class Silent(Net):
    # Its methods return nothing.

    def eval(self):
        super().eval()

    def requires_grad_(self, requires_grad=True):
        super().requires_grad_(requires_grad)

class Failing(Net):
    def eval(self):
        raise RuntimeError("not now")

class Extra(Net):
    state = {"steps": 3}

    def get_extra_state(self):
        return self.state

class Other(Extra):
    state = {"steps": 4}

class Strange(Extra):
    state = object()

class Stumbling(Net):
    def get_extra_state(self):
        raise KeyError("lost")

class Sparse(Net):
    def __init__(self, last=1.0):
        super().__init__()
        self.register_buffer("mask", torch.tensor([[0.0, last], [0.0, 0.0]]).to_sparse())

class Deep(Net):
    # A weight with five axes, of which there is no layout with channels last.

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 1, 2, 2, 2))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "networks.py").write_text(NETWORKS)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("")
    (tmp_path / "lab" / "nets.py").write_text("from networks import make, Net\n")
    yield tmp_path
    for name in ("networks", "lab", "lab.nets", "broken", "unmet"):
        sys.modules.pop(name, None)


def own(function, **keys):
    return ModelSection(source=f"networks:{function}", layers=("*",), **keys)


def test_a_function_of_ones_own_gives_the_network(folder):
    path = list(sys.path)
    model = load_model(own("make", input_size=32), folder, 1)
    assert model.module(torch.zeros(1, 3, 32, 32)).shape == (1, 4 * 30 * 30)
    assert not model.module[1].inplace and not model.module.training
    assert sys.path == path


def test_its_random_weights_follow_the_seed(folder):
    first, again, other = (load_model(own("Net"), folder, seed).weights_sha256 for seed in (1, 1, 2))
    assert first == again != other


def test_a_module_in_a_package_of_the_studys_folder_is_found(folder):
    network = load_model(ModelSection(source="lab.nets:Net", layers=("conv",)), folder, 1)
    assert unit_layers(outline(own("Net"), folder), ("conv",)) == ("conv",)
    assert describe_layers(network.module, ("conv",), network.input_size)[0].channels == 4


def test_two_studies_may_call_their_modules_alike(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "networks.py").write_text("from torch import nn\ndef make():\n    return nn.Conv2d(3, 9, 1)\n")
    assert isinstance(outline(own("make"), folder), torch.nn.Sequential)
    assert outline(own("make"), other).out_channels == 9
    assert isinstance(outline(own("make"), folder), torch.nn.Sequential)


def test_its_own_configuration_says_how_images_are_prepared(folder):
    model = load_model(own("Net"), folder, 1)
    assert (model.input_size, model.mean, model.std) == (40, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_without_one_the_input_size_must_be_given_and_colours_are_imagenets(folder, caplog):
    with pytest.raises(VisionError, match=r"'networks:make': the network doesn't say how large its input is .*set input_size"):
        load_model(own("make"), folder, 1)
    with caplog.at_level(logging.INFO, "crowd_imi.vision.models"):
        model = load_model(own("make", input_size=32), folder, 1)
    assert (model.mean, model.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert "the network doesn't say its mean, so ImageNet's is taken" in caplog.text


def test_it_takes_a_checkpoint(folder):
    state = {"net.conv.weight": torch.ones(4, 3, 3, 3), "net.conv.bias": torch.zeros(4)}
    save_file({f"module.{key.removeprefix('net.')}": tensor for key, tensor in state.items()}, folder / "net.safetensors")
    model = load_model(own("Net", checkpoint="net.safetensors"), folder, 1)
    # 27 weights of 1 over an image of ones.
    assert (model.module(torch.ones(1, 3, 8, 8)) == 27).all()
    save_file(state, folder / "other.safetensors")
    with pytest.raises(VisionError, match=r"aren't the weights of networks:Net: conv\.weight is missing.* Correct source"):
        load_model(own("Net", checkpoint="other.safetensors"), folder, 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere:make", "there is no module nowhere, neither in .* nor installed; correct source"),
        ("lab.nowhere:make", r"there is no module lab\.nowhere, neither"),
        ("networks:mke", "networks has no function mke; near it: make"),
        ("networks:CONSTANT", "networks has no function CONSTANT"),
        ("networks:number", r"the function returns no nn\.Module but int; let it return the network"),
        ("networks:needy", "calling the function failed .TypeError: needy.. missing 1 required positional argument"),
        (
            "networks:scripted",
            "the function returns a TorchScript program, and nothing can watch its layers; let it return",
        ),
        ("networks:on_meta", r"0\.weight is on the meta device and has no values; let the function return a network with"),
        ("networks:lazy", r"0\.weight has no shape yet, as its layer is a lazy one; send an image through the network"),
        ("networks:Failing", r"'networks:Failing': the network can't be made ready \(RuntimeError: not now\); mend it first"),
        (
            "networks:Strange",
            r"the network's _extra_state is a object, of which no digest can be made \(TypeError: ",
        ),
        ("networks:Stumbling", r"the network's state_dict\(\) fails \(KeyError: 'lost'\); mend it first"),
        ("broken:make", "importing broken failed .ZeroDivisionError: division by zero"),
        ("unmet:make", "unmet needs the module not_installed_anywhere; install it"),
    ],
)
def test_what_is_wrong_with_it_is_said(folder, source, message):
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "unmet.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(VisionError, match=message):
        load_model(ModelSection(source=source, layers=("*",), input_size=32), folder, 1)


@pytest.mark.parametrize("function", ["Silent", "Sparse", "Extra", "Deep"])
def test_a_network_with_methods_and_weights_of_its_own_kind_works(folder, function):
    first, again = (load_model(own(function, input_size=32), folder, 1) for _ in range(2))
    assert first.weights_sha256 == again.weights_sha256 != load_model(own("Net"), folder, 1).weights_sha256
    assert not first.module.training and not first.module.conv.weight.requires_grad
    assert first.module(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 30, 30)


def test_extra_state_and_sparse_buffers_count_in_the_digest(folder):
    one, other = (load_model(own(function, input_size=32), folder, 1).module for function in ("Extra", "Other"))
    other.conv = one.conv
    assert weights_sha256(one) != weights_sha256(other)
    sparse = load_model(own("Sparse", input_size=32), folder, 1).module
    before = weights_sha256(sparse)
    sparse.mask = 2 * sparse.mask
    assert weights_sha256(sparse) != before


@pytest.mark.parametrize("keys", [{"pretrained": True}, {"classes": 3}])
def test_what_only_other_sources_understand_is_refused(folder, keys):
    with pytest.raises(VisionError, match=f"networks:Net': {next(iter(keys))} "):
        load_model(own("Net", **keys), folder, 1)


# --- the publication's


def test_a_published_model_is_loaded_with_another_checkpoint_and_its_own_layers(tmp_path):
    original = timm.create_model("vit_base_patch32_224")
    save_file(original.state_dict(), tmp_path / "edited.safetensors")
    edited = ModelSection(source="imi:vit_b32", checkpoint="edited.safetensors")
    model = load_model(edited, tmp_path, 1)
    assert (model.input_size, model.mean, model.source) == (224, (0.5, 0.5, 0.5), "imi:vit_b32")
    assert unit_layers(model.module, layer_globs(edited))[:3] == ("blocks.0.norm1", "blocks.0.ls1", "blocks.0.norm2")
