import hashlib
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection, ReadoutSection
from crowd_imi.vision import readouts as readouts_module
from crowd_imi.vision.layers import describe_layers, unit_layers
from crowd_imi.vision.readouts import load_readouts, readout_names

CPU = torch.device("cpu")
ACTIVATIONS = ("relu", "topk", "jumprelu", "binary")


class Net(nn.Module):
    """``conv`` gives 3 channels on a map of 4 × 4, ``tokens`` 3 channels of 16 tokens, ``head`` 3 channels without space."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.tokens = nn.Linear(3, 3)
        self.head = nn.Linear(3, 3)

    def forward(self, images):
        return self.head(self.tokens(self.conv(images).flatten(2).transpose(1, 2)).mean(1))


@pytest.fixture
def read(tmp_path):
    """A layer with a readout, from the tensors in its file and its settings in study.toml."""

    def read(tensors=None, *, layer="conv", **settings):
        settings = {"layer": layer, "kind": "sae", **settings}
        if tensors is not None:
            save_file(
                {name: torch.as_tensor(tensor).clone().contiguous() for name, tensor in tensors.items()},
                tmp_path / "w.safetensors",
            )
        if settings["kind"] != "neurons":
            settings.setdefault("weights", "w.safetensors")
        section = ModelSection.model_validate({"source": "timm:any", "layers": ["*"], "readouts": {"r": settings}})
        loaded = load_readouts(section, tmp_path, CPU)
        (described,) = describe_layers(Net().eval(), unit_layers(Net(), [f"{layer}@r"], loaded), 4, loaded)
        return described

    return read


def encoder(latents=6, width=3, seed=0, **more):
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "W_enc": torch.randn(width, latents, generator=draw),
        "b_enc": torch.randn(latents, generator=draw) / 4,
        "b_dec": torch.randn(width, generator=draw) / 4,
    }
    return {**tensors, **more}


def features(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latents_of(read, activation, **more):
    if activation in ("jumprelu", "binary"):
        more["threshold"] = torch.linspace(0.1, 0.6, 6)
    settings = {"k": 2} if activation == "topk" else {}
    return read(encoder(**more), activation=activation, **settings)


# --- what each kind reads


def test_neurons_are_the_channels_at_a_position(read):
    layer = read(kind="neurons", position=(1, 2))
    output = torch.arange(48.0).reshape(1, 3, 4, 4)
    # Row 1, column 2 is number 6 of a channel's 16.
    assert layer.activations(output).tolist() == [[6.0, 22.0, 38.0]]
    assert layer.maps(output, [2, 0]).tolist() == [[[38.0], [6.0]]]


def test_neurons_of_a_transformer_are_the_channels_of_a_token(read):
    layer = read(layer="tokens", kind="neurons", position=(5,))
    assert layer.activations(torch.arange(48.0).reshape(1, 16, 3)).tolist() == [[15.0, 16.0, 17.0]]


def test_a_direction_is_the_projection_of_the_mean(read):
    layer = read({"found": [[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]]}, kind="directions")
    output = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) + torch.tensor([[-1.0, 1.0]]).view(1, 1, 1, 2)
    # The means are 1, 2, 3: 1 − 3 = −2 and 0.5 + 4 = 4.5; at the two positions all channels are one less and one more.
    assert layer.activations(output).tolist() == [[-2.0, 4.5]]
    assert layer.maps(output, [1]).tolist() == [[[2.0, 7.0]]]


def test_one_vector_is_no_matrix_but_one_row_is(read):
    assert read({"found": [[1.0, 0.0, 0.0]]}, kind="directions").channels == 1


def test_positions_are_encoded_one_by_one_before_the_mean(read):
    layer = read({"W_enc": torch.eye(3)}, activation="relu")
    output = torch.tensor([[4.0, -4.0], [-1.0, -1.0], [1.0, 0.0]]).view(1, 3, 1, 2)
    # ReLU of the mean would be 0, 0, 0.5.
    assert layer.activations(output).tolist() == [[2.0, 0.0, 0.5]]


def test_the_first_k_pass_and_of_these_only_what_is_above_zero(read):
    layer = read({"W_enc": torch.eye(3)}, activation="topk", k=2)
    assert layer.activations(torch.tensor([[3.0, 2.0, 1.0], [-1.0, -2.0, 5.0]]).view(2, 3, 1, 1)).tolist() == [
        [3, 2, 0],
        [0, 0, 5],
    ]


def test_jumprelu_keeps_the_height_and_binary_only_whether(read):
    tensors = {"W_enc": torch.eye(3), "threshold": torch.tensor([1.0, 2.0, -5.0])}
    output = torch.tensor([1.5, 1.5, -1.0]).view(1, 3, 1, 1)
    assert read(tensors, activation="jumprelu").activations(output).tolist() == [[1.5, 0.0, 0.0]]
    assert read(tensors, activation="binary").activations(output).tolist() == [[1.0, 0.0, 1.0]]
    assert read({"W_enc": torch.eye(3)}, activation="binary").activations(output).tolist() == [[1.0, 1.0, 0.0]]


def test_a_threshold_may_be_one_for_all_and_may_be_a_logarithm(read):
    output = torch.tensor([1.5, 2.5, 3.5]).view(1, 3, 1, 1)
    for threshold in ({"threshold": torch.tensor(2.0)}, {"log_threshold": torch.full((3,), 2.0).log()}):
        layer = read({"W_enc": torch.eye(3), **threshold}, activation="jumprelu")
        assert layer.activations(output).tolist() == [[0.0, 2.5, 3.5]]


def test_an_sae_takes_its_decoders_bias_off_and_a_transcoder_does_not(read):
    tensors = {"W_enc": torch.eye(3), "b_dec": torch.ones(3)}
    output = torch.tensor([1.5, 2.5, 3.5]).view(1, 3, 1, 1)
    assert read(tensors, kind="sae").activations(output).tolist() == [[0.5, 1.5, 2.5]]
    assert read(tensors, kind="transcoder").activations(output).tolist() == [[1.5, 2.5, 3.5]]


def test_a_study_can_say_whether_an_sae_takes_its_decoders_bias_off(read):
    tensors = {"W_enc": torch.eye(3), "b_dec": torch.ones(3)}
    output = torch.tensor([1.5, 2.5, 3.5]).view(1, 3, 1, 1)
    assert read(tensors, subtract_bias=True).activations(output).tolist() == [[0.5, 1.5, 2.5]]
    assert read(tensors, subtract_bias=False).activations(output).tolist() == [[1.5, 2.5, 3.5]]
    before = {"W_enc": torch.eye(3), "pre_bias": torch.ones(3)}  # a pre_bias is one by its name
    for subtract in (None, True, False):
        assert read(before, subtract_bias=subtract).activations(output).tolist() == [[0.5, 1.5, 2.5]]


def test_a_transcoders_decoder_bias_may_have_the_width_of_another_layer(read):
    assert read(encoder(b_dec=torch.ones(99)), kind="transcoder").channels == 6


# --- names and orders of published files


@pytest.mark.parametrize(
    "names",
    [
        {"weight": "W_enc", "bias": "b_enc", "before": "b_dec"},
        {"weight": "encoder.weight", "bias": "encoder.bias", "before": "b_dec"},
        {"weight": "encoder.weight", "bias": "encoder.bias", "before": "bias"},
        {"weight": "encoder.weight", "bias": "encoder.bias", "before": "decoder.bias"},
        {"weight": "encoder.weight", "bias": "latent_bias", "before": "pre_bias"},
    ],
    ids=["saelens", "topk", "dictionary", "linear", "openai"],
)
@pytest.mark.parametrize("latents", [3, 6])
def test_every_published_naming_gives_the_same_latents(read, names, latents):
    theirs = encoder(latents)
    weight = theirs["W_enc"] if names["weight"] == "W_enc" else theirs["W_enc"].T
    layer = read(
        {names["weight"]: weight, names["bias"]: theirs["b_enc"], names["before"]: theirs["b_dec"], "decoder.weight": weight}
    )
    output = features(2, 3, 4, 4)
    # Three latents of three channels make a square, which only its name orients.
    by_hand = ((output.flatten(2).transpose(1, 2) - theirs["b_dec"]) @ theirs["W_enc"] + theirs["b_enc"]).relu().mean(1)
    assert torch.allclose(layer.activations(output), by_hand, atol=1e-6)


def test_an_encoder_saved_the_other_way_round_is_told_by_the_layers_width(read):
    usual, turned = encoder(), encoder()
    turned["W_enc"] = turned["W_enc"].T
    output = features(2, 3, 4, 4)
    assert torch.equal(read(usual).activations(output), read(turned).activations(output))


def test_weights_in_half_precision_are_read_as_float32(read):
    tensors = {name: tensor.bfloat16() for name, tensor in encoder().items()}
    assert read(tensors).activations(features(1, 3, 4, 4)).dtype == torch.float32


# --- some units, half precision, memory


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_some_units_are_columns_of_all(read, activation):
    layer = latents_of(read, activation)
    output = features(2, 3, 4, 4)
    assert torch.allclose(layer.activations(output, [4, 1]), layer.activations(output)[:, [4, 1]], atol=1e-6)


@pytest.mark.parametrize("kind", ["channels", "neurons", "directions", "sae"])
def test_activations_are_float32_also_where_the_network_computes_in_less(read, kind):
    layer = {
        "channels": lambda: describe_layers(Net(), ["conv"], 4)[0],
        "neurons": lambda: read(kind="neurons", position=(0, 3)),
        "directions": lambda: read({"found": torch.randn(5, 3)}, kind="directions"),
        "sae": lambda: read(encoder()),
    }[kind]()
    output = features(2, 3, 4, 4).bfloat16()
    expected = layer.activations(output.float())
    with torch.autocast("cpu", torch.bfloat16):
        seen, maps = layer.activations(output), layer.maps(output, [0])
    assert seen.dtype == maps.dtype == torch.float32
    assert torch.allclose(seen, expected, atol=1e-6)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_memory_is_bounded_whatever_the_number_of_positions(read, activation, monkeypatch):
    layer = latents_of(read, activation)
    output = features(2, 3, 32, 32)
    whole = layer.activations(output)
    # 2 images × 6 latents × 16 positions fit at a time, of 1024.
    monkeypatch.setattr(readouts_module, "CHUNK", 2 * 6 * 16)
    with torch.inference_mode(), Largest() as largest:
        parts = layer.activations(output)
    # The layer's output itself has 2 × 3 × 1024 numbers and is only looked at.
    assert largest.numbers in (2 * 6 * 16, output.numel())
    assert torch.allclose(parts, whole, atol=1e-6)


# --- maps


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_mean_of_a_latents_map_is_its_activation(read, activation, monkeypatch):
    layer = latents_of(read, activation)
    output = features(3, 3, 4, 4)
    assert layer.maps(output, [5, 0]).shape == (3, 2, 16)
    assert torch.allclose(layer.maps(output, [5, 0]).mean(2), layer.activations(output)[:, [5, 0]], atol=1e-6)
    monkeypatch.setattr(readouts_module, "CHUNK", 100)
    assert torch.allclose(layer.maps(output, [5, 0]).mean(2), layer.activations(output)[:, [5, 0]], atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_latent_that_passes_nowhere_has_a_value_of_zero_and_a_gradient(read, activation):
    layer = latents_of(read, activation, b_enc=torch.tensor([-100.0, 0, 0, 0, 0, 0]))
    output = features(1, 3, 4, 4).requires_grad_()
    layer.maps(output, [0]).mean().backward()
    assert float(layer.activations(output)[0, 0].detach()) == 0
    # That of z: each position pulls along the encoder's column, by its share of 1/16.
    assert torch.allclose(output.grad, (encoder()["W_enc"][:, 0] / 16).view(1, 3, 1, 1).expand_as(output), atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu"])
def test_where_a_latent_passes_the_gradient_is_its_own(read, activation):
    layer = latents_of(read, activation)
    output = features(1, 3, 4, 4).requires_grad_()
    maps = layer.maps(output, [1])
    (from_maps,) = torch.autograd.grad(maps.mean(), output)
    (own,) = torch.autograd.grad(layer.activations(output)[:, 1].sum(), output)
    assert 0 < int((maps > 0).sum()) < 16
    assert torch.allclose(from_maps, own, atol=1e-6)


# --- what a readout is called and known by


def test_full_names_need_no_file():
    readouts = {"r": {"layer": "layer3.1", "kind": "sae", "weights": "nowhere.safetensors"}}
    section = ModelSection.model_validate({"source": "timm:any", "layers": ["*"], "readouts": readouts})
    assert readout_names(section) == ("layer3.1@r",)


def test_the_digest_changes_with_the_weights_and_with_every_setting(read):
    jump = encoder(threshold=torch.zeros(6))
    layers = [
        read(encoder(), activation="relu"),
        read(encoder(seed=1), activation="relu"),
        read(encoder(), activation="relu", kind="transcoder"),
        read(encoder(), activation="relu", subtract_bias=True),
        read(encoder(), activation="relu", subtract_bias=False),
        read(encoder(), activation="topk", k=1),
        read(encoder(), activation="topk", k=2),
        read(jump, activation="jumprelu"),
        read(jump, activation="binary"),
        read(kind="neurons", position=(0, 0)),
        read(kind="neurons", position=(0, 1)),
    ]
    assert len({layer.readout.sha256 for layer in layers}) == len(layers)
    assert read(encoder(), activation="relu").readout.sha256 == layers[0].readout.sha256


def test_a_digest_is_the_one_of_packs_from_before_subtract_bias(read):
    settings = ReadoutSection(layer="conv", kind="neurons", position=(0, 0)).model_dump(mode="json", exclude={"weights"})
    del settings["subtract_bias"]
    expected = hashlib.sha256(json.dumps([settings, None], sort_keys=True).encode()).hexdigest()
    assert read(kind="neurons", position=(0, 0)).readout.sha256 == expected


def test_a_layer_with_a_readout_can_be_sent_to_another_process(read):
    layer = read(encoder())
    output = features(1, 3, 4, 4)
    assert torch.equal(pickle.loads(pickle.dumps(layer)).activations(output), layer.activations(output))


# --- what doesn't fit is said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"position": (4, 0)},
            r"readouts\.r\.position = \[4, 0\]: layer conv's map is 4 × 4; right would be \[0, 0\] to \[3, 3\]",
        ),
        ({"position": (3,)}, r"layer conv's map is 4 × 4"),
        ({"position": (16,), "layer": "tokens"}, r"layer tokens's output has 16 tokens; right would be \[0\] to \[15\]"),
        ({"position": (0,), "layer": "head"}, "layer head has no positions; name it without a readout"),
    ],
)
def test_a_position_outside_is_refused(read, settings, message):
    with pytest.raises(VisionError, match=message):
        read(kind="neurons", **settings)


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        (
            {"found": torch.zeros(2, 5)},
            {"kind": "directions"},
            r"readouts\.r\.weights: the directions are 5 wide, and layer conv has 3 channels",
        ),
        ({"found": torch.zeros(3, 5)}, {"kind": "directions"}, "transpose it, a direction is a row"),
        ({"found": torch.zeros(3)}, {"kind": "directions"}, r"found has the shape \(3,\); 2 dimensions are expected"),
        (
            {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)},
            {"kind": "directions"},
            "it holds a, b; expected is one matrix, or one called directions",
        ),
        (encoder(width=5), {}, "the encoder is 6 × 5, and layer conv has 3 channels"),
        (encoder(b_enc=torch.zeros(5)), {}, "the encoder's bias has 5 numbers, and 6 latents of 3 channels need 6"),
        (encoder(b_dec=torch.zeros(5)), {}, "the input's bias has 5 numbers, and 6 latents of 3 channels need 3"),
        ({"enc.w": torch.zeros(3, 6)}, {}, r"it holds enc\.w; expected are an encoder's weights, W_enc or encoder\.weight"),
        (encoder(b_mag=torch.zeros(6)), {}, "it holds b_mag, and gated autoencoders can't be read"),
        (encoder(W_enc=torch.full((3, 6), torch.nan)), {}, "W_enc holds values that aren't finite"),
        (encoder(), {"activation": "jumprelu"}, "jumprelu needs threshold or log_threshold"),
        (encoder(threshold=torch.zeros(6)), {}, "it holds a threshold, which relu doesn't have"),
        (
            {"W_enc": torch.eye(3)},
            {"subtract_bias": True},
            "holds W_enc; subtract_bias = true needs pre_bias or b_dec or bias or",
        ),
        (encoder(threshold=torch.zeros(4)), {"activation": "binary"}, "the threshold has 4 numbers"),
        (encoder(), {"activation": "topk", "k": 7}, r"readouts\.r\.k = 7: the encoder has only 6 latents"),
        (encoder(), {"weights": "none.safetensors"}, r"weights = 'none\.safetensors': there is no file .*none\.safetensors"),
        (encoder(), {"layer": "cnv"}, r"readouts\.r\.layer = 'cnv': the model has no such layer; the nearest names are conv"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_both_sides(read, tensors, settings, message):
    with pytest.raises(VisionError, match=message) as refused:
        read(tensors, **settings)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_safetensors_file_is_refused(read, tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(VisionError, match=r"torn\.safetensors can't be read as a safetensors file"):
        read(weights="torn.safetensors")


@pytest.mark.parametrize(
    "settings",
    [{"kind": "neurons"}, {"kind": "directions", "weights": None}, {"activation": "topk"}],
    ids=["neurons", "directions", "topk"],
)
def test_a_readout_without_what_it_is_read_by_is_told_what_it_needs(read, settings):
    with pytest.raises(VisionError, match=r"^readouts\.r: what it is read by is missing; give neurons a position, other kinds w"):
        read(encoder(), **settings)
