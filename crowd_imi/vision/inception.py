"""GoogLeNet as the field means it: lucent's InceptionV1, the network of Lucid and of OpenAI's Microscope.

The only module of ``vision`` that imports lucent, and imported only when a study names ``lucent:inceptionv1``.
"""

import torch
from lucent.modelzoo.inceptionv1.InceptionV1 import InceptionV1, model_urls
from torch import nn

from crowd_imi.errors import VisionError

INPUT_SIZE = 224
MEAN = (117 / 255, 117 / 255, 117 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
"""Its input is x · 255 − 117 for x in 0–1, i.e. (x − 117/255) / (1/255)."""


def inceptionv1(*, pretrained: bool) -> nn.Module:
    """The network with 1008 outputs; its ReLUs let gradients through as lucent's do.

    Raises:
        VisionError: the published weights can't be fetched.
    """
    module: nn.Module = InceptionV1(pretrained=False)
    if pretrained:
        module.load_state_dict(_fetched())
    return module


def _fetched() -> dict[str, torch.Tensor]:
    """Lucent's file, from lucent's address into the same cache, but read without running what it may hold."""
    address = model_urls["inceptionv1"]
    try:
        return dict(torch.hub.load_state_dict_from_url(address, map_location="cpu", progress=False, weights_only=True))
    except OSError as error:
        raise VisionError(
            f"lucent:inceptionv1: its weights can't be had from {address} ({error}); check the network, or download that file "
            "elsewhere and name it as checkpoint"
        ) from None
