"""Plain lucent: what the engine is measured against, in tests and in benchmarks; the only module of the factory that imports it.

One side of one unit at a time, through ``render_vis``, with lucent's own parametrisation, transforms and diversity.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from crowd_imi.factory.visualize.ascent import Target, Visualiser, diverged
from crowd_imi.factory.visualize.canvas import centre
from crowd_imi.factory.visualize.search import Found
from crowd_imi.factory.visualize.warp import ANGLES, JITTERS, SCALES, canvas_size, in_proportion
from crowd_imi.records import REFERENCES
from crowd_imi.vision.layers import channels_first
from crowd_imi.vision.preprocess import normalise

with warnings.catch_warnings():
    # kornia 0.4.1, which lucent needs, compiles with torch.jit.script at import; torch has called that deprecated.
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", category)
    from lucent.optvis import objectives, param, transform
    from lucent.optvis.render import render_vis


def lucent(visualiser: Visualiser, targets: Sequence[Target], seeds: Sequence[int]) -> list[Found]:
    """So many steps, with one weight, as ``search.fixed`` makes them, by lucent."""
    return [_render(visualiser, target, seed) for target, seed in zip(targets, seeds, strict=True)]


def _render(visualiser: Visualiser, target: Target, seed: int) -> Found:
    settings, model = visualiser.settings, visualiser.model
    with seeded(seed):
        (images,) = render_vis(
            model.module,
            objective(target, settings.diversity),
            lambda: param.image(canvas_size(settings.size), batch=REFERENCES, fft=True, decorrelate=True),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=settings.learning_rate),
            transforms=[*transforms(settings.size), lambda moved: normalise(centre(moved, settings.size), model)],
            thresholds=(settings.steps,),
            preprocess=False,
            progress=False,
            show_image=False,
            fixed_image_size=model.input_size,
        )
    if not np.isfinite(images).all():
        raise diverged(target, settings.steps, settings)
    kept = centre(torch.from_numpy(images).permute(0, 3, 1, 2), settings.size)
    return Found(kept.to(model.device), settings.diversity, settings.steps, REFERENCES * settings.steps)


def transforms(size: int) -> list[Callable[[Tensor], Tensor]]:
    """The published ones, in proportion to the size of the image."""
    first, second = (transform.jitter(in_proportion(places, size)) for places in JITTERS)
    return [first, transform.random_scale(SCALES), transform.random_rotate(ANGLES), second]


def objective(target: Target, weight: float) -> Callable[[Callable[[str], Tensor]], Tensor]:
    """The first image is driven alone; over the other eight, drive and diversity are weighed by lucent's own objectives."""
    layer, name = target.layer, target.layer.module.replace(".", "_")
    channel, diversity = objectives.channel(name, 0), objectives.diversity(name)

    def minimised(features: Callable[[str], Tensor]) -> Tensor:
        output = features(name)
        drive = layer.maps(output, (target.channel,)) * (target.sign / target.span)
        loss: Tensor = channel(lambda _: drive[:1]) + channel(lambda _: drive[1:])
        if weight:
            loss = loss - weight * diversity(lambda _: channels_first(output[1:], layer.axis).contiguous()[..., None])
        return loss

    return minimised


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's and numpy's global generators, from which lucent draws, and leaves both as they were."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)
