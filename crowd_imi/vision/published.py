"""The nine networks of the publication: where each comes from, and the layers whose channels counted as units.

Zimmermann, Klein & Brendel, "Scale Alone Does not Improve Mechanistic Interpretability in Vision Models", NeurIPS 2023,
arXiv:2307.05471; layers and weights as in the authors' released code (github.com/brendel-group/imi, stimuli_generation/),
under the names that timm and lucent give them. Nothing here needs torch.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from crowd_imi.errors import VisionError
from crowd_imi.study import PUBLISHED, ModelSection

SUM = "act3.sum"
"""Of a ResNet's block: the residual sum before its ReLU, which timm gives no name; ``load_model`` adds one."""

ROBUST_CHECKPOINT = (
    "get resnet50_l2_eps3.ckpt of madrylab/robust-imagenet-models (L2, ε = 3; on the Hugging Face hub), put it into the "
    'study\'s folder and set checkpoint = "resnet50_l2_eps3.ckpt"'
)


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One of the nine."""

    source: str
    """As in study.toml: ``timm:ARCHITECTURE.WEIGHTS`` or ``lucent:inceptionv1``."""
    layers: tuple[str, ...]
    """Patterns of the names of the layers whose channels are units."""
    checkpoint_needed: str = ""
    """How to get the weights, where they can't be fetched by themselves."""
    input_size: int | None = None
    """Where the publication's differs from the one that timm states for these weights."""
    sums: bool = False
    """Whether ``SUM`` is among the layers."""


BLOCKS_OF_RESNET50 = (3, 4, 6, 3)


def _resnet() -> Iterator[str]:
    yield from ("layer?.?.conv?", "layer?.?.bn?")
    for stage, blocks in enumerate(BLOCKS_OF_RESNET50, start=1):
        yield from (f"layer{stage}.{block}.{SUM}" for block in range(blocks))


def _clip_resnet() -> Iterator[str]:
    # open_clip's blocks give their sums no name, so the publication took no units from them. `drop` is where timm's fused
    # norm has normalised and not yet applied the ReLU; it passes on its input, so that only an exact name takes it.
    yield "stages.?.?.conv?_*.conv"
    for stage, blocks in enumerate(BLOCKS_OF_RESNET50):
        for block in range(blocks):
            yield from (f"stages.{stage}.{block}.{conv}.bn.drop" for conv in ("conv1_1x1", "conv2_kxk", "conv3_1x1"))


def _densenet() -> Iterator[str]:
    yield from ("features.denseblock?.denselayer*.conv?", "features.transition?.conv")
    for block, layers in enumerate((6, 12, 48, 32), start=1):
        for layer in range(1, layers + 1):
            yield from (f"features.denseblock{block}.denselayer{layer}.norm{norm}.drop" for norm in (1, 2))
    yield from (f"features.transition{block}.norm.drop" for block in (1, 2, 3))


def _transformer() -> Iterator[str]:
    # Without layer scale, ls1 and ls2 pass on what attention and MLP give; the publication sampled units there all the same.
    yield from ("blocks.*.norm1", "blocks.*.norm2", "blocks.*.mlp.fc1", "blocks.*.mlp.fc2")
    yield from (f"blocks.{block}.ls{which}" for block in range(12) for which in (1, 2))


NINE = {
    "googlenet": PublishedModel("lucent:inceptionv1", ("mixed*_pre_relu_conv",)),
    "resnet50": PublishedModel("timm:resnet50.tv_in1k", tuple(_resnet()), sums=True),
    "robust_resnet50": PublishedModel("timm:resnet50.tv_in1k", tuple(_resnet()), checkpoint_needed=ROBUST_CHECKPOINT, sums=True),
    "clip_resnet50": PublishedModel("timm:resnet50_clip.openai", tuple(_clip_resnet())),
    # timm states 176 px, at which these weights were trained; the publication showed them 224.
    "wide_resnet50": PublishedModel("timm:wide_resnet50_2.tv2_in1k", tuple(_resnet()), input_size=224, sums=True),
    "densenet201": PublishedModel("timm:densenet201.tv_in1k", tuple(_densenet())),
    "convnext_b": PublishedModel(
        "timm:convnext_base.fb_in1k",
        (
            *("stages.?.blocks.?", "stages.?.blocks.??", "stages.?.blocks.*.conv_dw", "stages.?.blocks.*.norm"),
            *("stages.?.blocks.*.mlp.fc1", "stages.?.blocks.*.mlp.fc2"),
        ),
    ),
    "vit_b32": PublishedModel("timm:vit_base_patch32_224.augreg_in1k", tuple(_transformer())),
    "clip_vit_b32": PublishedModel("timm:vit_base_patch32_clip_224.laion2b", tuple(_transformer())),
}


def published_model(section: ModelSection) -> PublishedModel | None:
    """The one of the nine that a model's source names as ``imi:NAME``; None where it names something else.

    Raises:
        VisionError: the publication has no model of that name.
    """
    if not section.source.startswith(PUBLISHED):
        return None
    name = section.source.removeprefix(PUBLISHED)
    if name not in NINE:
        nearest = difflib.get_close_matches(name, NINE, n=1)
        hint = f"do you mean {PUBLISHED}{nearest[0]}? " if nearest else ""
        raise VisionError(f"source = {section.source!r}: {hint}the publication's models are {', '.join(NINE)}")
    return NINE[name]


def layer_globs(section: ModelSection) -> tuple[str, ...]:
    """Patterns of the layers that units come from: those of listed units, else the study's own, else the publication's.

    Raises:
        VisionError: the publication has no such model.
    """
    published = published_model(section)
    listed = tuple(dict.fromkeys(unit.partition("/")[0] for unit in section.units))
    return listed or section.layers or (published.layers if published is not None else ())


def resolved(section: ModelSection) -> ModelSection:
    """The same model by its real source, with published weights unless it has a checkpoint.

    Raises:
        VisionError: the publication has no such model, or its weights must be fetched by hand and aren't named.
    """
    published = published_model(section)
    if published is None:
        return section
    if published.checkpoint_needed and section.checkpoint is None:
        raise VisionError(
            f"source = {section.source!r}: its weights can't be fetched by themselves; {published.checkpoint_needed}"
        )
    return section.model_copy(
        update={
            "source": published.source,
            "pretrained": section.checkpoint is None,
            "input_size": section.input_size or published.input_size,
        }
    )
