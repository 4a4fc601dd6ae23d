"""Feature visualisation: images that drive a unit, made from noise by gradient ascent.

    canvas, warp, objective   what is optimised, how it is moved, what is climbed: lucent's, for many units at a time
    ascent                    the optimisation
    search                    how long it takes, and how much diversity weighs
    plain                     lucent as it is, to be measured against; imported only where it is asked for

Parametrisation, transforms and objective are the published ones: Zimmermann, Klein & Brendel 2023, arXiv:2307.05471.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crowd_imi.factory.visualize.ascent import Diverged, Target, Visualiser, look
from crowd_imi.factory.visualize.canvas import to_pixels
from crowd_imi.factory.visualize.search import Found, adaptive, fixed, published
from crowd_imi.vision.preprocess import Pixels

__all__ = ["Diverged", "Target", "Visualisations", "Visualiser", "visualise"]


@dataclass(frozen=True, slots=True)
class Visualisations:
    """Nine images of one side of one unit."""

    pixels: Pixels
    """Shape (9, size, size, 3); the strongest first, the others in the order of their random beginnings."""
    activations: tuple[float, ...]
    """Of the finished images, in the same order."""
    alike: float
    """Mean cosine between the Gram matrices, at the unit's layer, of the eight images that were to differ: 0–1."""
    weight: float
    """Of diversity."""
    steps: int
    """Of the optimisation that the images come from."""
    passes: int
    """Forward and backward passes of one image, over the whole search."""


def visualise(visualiser: Visualiser, targets: Sequence[Target], seeds: Sequence[int]) -> list[Visualisations]:
    """Make nine images for each side of units that drive it most, or least.

    One of them is optimised for the unit alone, and eight also for being unlike one another at the unit's layer.

    Args:
        visualiser: the model and the settings.
        targets: of one layer; they are optimised together.
        seeds: one per target; the same one gives the same images on the same machine, among the same targets.

    Raises:
        Diverged: a visualisation isn't made of numbers any more.
    """
    found = _procedure(visualiser)(visualiser, targets, seeds)
    return [_finished(visualiser, target, each) for target, each in zip(targets, found, strict=True)]


Procedure = Callable[[Visualiser, Sequence[Target], Sequence[int]], list[Found]]


def _procedure(visualiser: Visualiser) -> Procedure:
    if visualiser.settings.engine == "lucent":
        from crowd_imi.factory.visualize.plain import lucent

        return lucent
    procedures: dict[str, Procedure] = {"fixed": fixed, "published": published, "adaptive": adaptive}
    return procedures[visualiser.settings.procedure]


def _finished(visualiser: Visualiser, target: Target, found: Found) -> Visualisations:
    pixels = to_pixels(found.images)
    (seen,) = look(visualiser.model, [target], found.images[None], alone=1)
    reached = [target.sign * activation for activation in seen.activations]
    strongest = reached.index(max(reached))
    order = [strongest, *(place for place in range(len(pixels)) if place != strongest)]
    activations = tuple(seen.activations[place] for place in order)
    return Visualisations(pixels[order], activations, seen.alike, found.weight, found.steps, found.passes)
