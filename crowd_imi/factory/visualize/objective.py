"""What is climbed: a unit's drive, and how different a set's images are to the network."""

import torch
from torch import Tensor

TINY = 1e-24
"""Below which a squared norm counts as zero, as in lucent."""


def similarity(features: Tensor) -> Tensor:
    """How alike the images of each set are at a layer: the mean over images of the summed cosines of their Gram matrices.

    lucent's ``objectives.diversity`` with the sign turned, by ⟨FᵢFᵢᵀ, FⱼFⱼᵀ⟩ = ‖FᵢᵀFⱼ‖²: products of positions with positions
    are enough, where these are fewer than channels, and no C × C matrix is made.

    Args:
        features: shape (sets, images, channels, positions).

    Returns:
        Shape (sets,); between 0 and images − 1.
    """
    sets, images, channels, positions = features.shape
    if images * positions <= 2 * channels:
        side_by_side = features.transpose(2, 3).reshape(sets, images * positions, channels)
        crossed = side_by_side @ side_by_side.transpose(1, 2)
        products = crossed.view(sets, images, positions, images, positions).square().sum((2, 4))
    else:
        grams = (features @ features.transpose(2, 3)).flatten(2)
        products = grams @ grams.transpose(1, 2)
    norms = products.diagonal(dim1=1, dim2=2).clamp_min(TINY).sqrt()
    cosines = products / (norms[:, :, None] * norms[:, None, :])
    return (cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)) / images


def loss(drives: Tensor, alike: Tensor, weights: Tensor, alone: int) -> Tensor:
    """What one step makes smaller, for each set: the less, the higher the drive and the more different the images.

    Args:
        drives: shape (sets, images); a side's sign and scale are in it.
        alike: ``similarity`` of each set's images behind the first ``alone``, shape (sets,).
        weights: of the similarity, shape (sets,).
        alone: how many images of each set are optimised for the unit alone; each of them counts like all others together.

    Returns:
        Shape (sets,).
    """
    drive = drives[:, :alone].sum(1)
    if alone < drives.shape[1]:
        drive = drive + drives[:, alone:].mean(1)
    return torch.where(weights > 0, weights * alike, torch.zeros_like(alike)) - drive
