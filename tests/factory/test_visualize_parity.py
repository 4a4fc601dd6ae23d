"""What is optimised, how it is moved and what is climbed, against lucent's own on the same parameters."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from crowd_imi.factory.visualize.ascent import Target, activations_of
from crowd_imi.factory.visualize.canvas import amplitudes, beginning, colours, paint
from crowd_imi.factory.visualize.objective import loss, similarity
from crowd_imi.factory.visualize.plain import objective, seeded
from crowd_imi.factory.visualize.warp import Moves, affine, canvas_size, warp
from crowd_imi.vision.layers import UnitLayer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kornia
    from lucent.optvis import objectives, param
    from lucent.optvis.param.spatial import rfft2d_freqs

CPU = torch.device("cpu")


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_same_seed_begins_with_lucents_spectra():
    with seeded(3):
        (spectra,), _ = param.image(36, batch=2, fft=True, decorrelate=True)
    assert torch.equal(beginning(3, 2, 36), spectra.detach())


@pytest.mark.parametrize("size", [36, 256])
def test_spectra_are_painted_as_lucent_paints_them(size):
    with seeded(3):
        (spectra,), image = param.image(size, batch=2, fft=True, decorrelate=True)
    with torch.no_grad():
        spectra *= 50  # as after some hundred steps
        ours = paint(spectra, amplitudes(size, CPU), colours(CPU))
        assert ours.std() > 0.1
        torch.testing.assert_close(ours, image(), rtol=1e-4, atol=1e-5)


def test_gradients_of_spectra_are_lucents():
    with seeded(3):
        (spectra,), image = param.image(36, batch=2, fft=True, decorrelate=True)
    towards = random(2, 3, 36, 36)
    (image() * towards).sum().backward()
    ours = beginning(3, 2, 36).requires_grad_(True)
    (paint(ours, amplitudes(36, CPU), colours(CPU)) * towards).sum().backward()
    torch.testing.assert_close(ours.grad, spectra.grad, rtol=1e-4, atol=1e-6)


def test_odd_sizes_have_the_amplitudes_of_lucent():
    # Of an odd size lucent keeps a column more, which its transform cuts off.
    expected = 1 / np.maximum(rfft2d_freqs(37, 37), 1 / 37)[:, :19] / 4
    assert amplitudes(37, CPU)[..., 0].numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 6, 3, 3), (4, 20, 2, 2), (9, 300, 4, 4)])
def test_similarity_is_lucents_diversity_with_the_sign_turned(shape):
    features = random(*shape)
    # Channels above and below positions take different roads to the same number.
    expected = -float(objectives.diversity("any")(lambda _layer: features))
    assert similarity(features.flatten(2)[None]).item() == pytest.approx(expected, rel=1e-4)


def test_similarity_of_equal_images_is_their_number_less_one_and_silence_is_none():
    one = random(1, 6, 9)
    assert similarity(one.expand(1, 4, 6, 9)).item() == pytest.approx(3.0, rel=1e-5)
    assert similarity(torch.zeros(1, 4, 6, 9)).item() == 0


@pytest.mark.parametrize(("side", "weight"), [("max", 0.0), ("max", 10.0), ("min", 10.0)])
def test_the_loss_of_each_of_several_sets_is_lucents_of_that_set(side, weight):
    layer = UnitLayer("any", 6, 1, "any")
    output = random(18, 6, 5, 5)
    targets = [Target(layer, channel, side) for channel in (4, 1)]
    features = output.flatten(2).unflatten(0, (2, 9))
    drives = activations_of(output, targets) * targets[0].sign
    losses = loss(drives, similarity(features[:, 1:]), torch.full((2,), weight), alone=1)
    for place, target in enumerate(targets):
        of_set = output[9 * place : 9 * place + 9]
        expected = float(objective(target, weight)(lambda _, of_set=of_set: of_set))
        assert losses[place].item() == pytest.approx(expected, rel=1e-4)


def sharp(scale: int = 1) -> Tensor:
    """Random pixels of one colour channel each, shape (sets 1, images 1, 3, canvas, canvas)."""
    size = canvas_size(64)
    return random(1, 1, 3, size // scale, size // scale)


def crop(images: Tensor, size: int) -> Tensor:
    top = (images.shape[-1] - size) // 2
    return images[..., top : top + size, top : top + size]


def test_jitter_moves_by_whole_pixels_as_translate_does():
    images = sharp()
    moved = warp(images, torch.from_numpy(affine(64, (3, -2), 1.0, 0.0, (-1, 2)))[None], 64)
    expected = torch.roll(images[0], (0, 2), (2, 3))  # down by −2 + 2, to the right by 3 − 1
    torch.testing.assert_close(moved, crop(expected, 64), rtol=1e-4, atol=1e-4)


def test_rotation_is_the_one_of_kornia_that_lucent_uses():
    images = sharp()
    size = images.shape[-1]
    middle = torch.full((1, 2), (size - 1) / 2)
    turned = kornia.warp_affine(
        images[0], kornia.get_rotation_matrix2d(middle, torch.tensor([4.0]), torch.ones(1, 2)), dsize=(size, size)
    )
    ours = warp(images, torch.from_numpy(affine(64, (0, 0), 1.0, 4.0, (0, 0)))[None], 64)
    # kornia turns about the corner of the middle pixel, half a pixel away: interpolated, not equal, but near.
    here = (ours - crop(turned, 64)).abs().mean()
    there = (
        (
            ours
            - crop(
                kornia.warp_affine(
                    images[0], kornia.get_rotation_matrix2d(middle, torch.tensor([-4.0]), torch.ones(1, 2)), dsize=(size, size)
                ),
                64,
            )
        )
        .abs()
        .mean()
    )
    assert here < 0.25 * there


def test_scale_enlarges_about_the_middle():
    ramp = torch.linspace(-1, 1, canvas_size(64)).expand(1, 1, 3, canvas_size(64), canvas_size(64))
    plain, larger = (warp(ramp, torch.from_numpy(affine(64, (0, 0), scale, 0.0, (0, 0)))[None], 64) for scale in (1.0, 1.05))
    torch.testing.assert_close(larger, plain / 1.05, rtol=1e-4, atol=1e-5)


def test_moves_follow_the_seed():
    first, again, other = (Moves(seed, 224) for seed in (1, 1, 2))
    drawn = [[moves() for _ in range(20)] for moves in (first, again, other)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
