"""The k lowest and the k highest activations of every unit of a layer, kept while images pass by.

Memory is units × k, however many images there are.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi.seeds import generator

LATER = 256
"""Images whose activations are gathered before they are merged: sorting for every batch would cost more than the rest."""


class Extremes:
    """Running top and bottom k of one layer's units.

    An activation and its image are kept as one whole number: the activation's bits, in an order that whole numbers share,
    above the image's tiebreak. So the order is total, the same for every size of batch and on every device.
    """

    def __init__(self, units: int, k: int, device: torch.device) -> None:
        self.k = k
        self._lowest = torch.empty((units, 0), dtype=torch.int64, device=device)
        self._highest = torch.empty((units, 0), dtype=torch.int64, device=device)
        self._waiting: list[Tensor] = []

    def add(self, activations: Tensor, ties: Tensor) -> None:
        """See some more images.

        Args:
            activations: shape (images, units), float32, finite.
            ties: shape (images,), int64 in [0, 2³²), different for every image: the lower comes first among equals.
        """
        self._waiting.append((_ordered(activations) << 32 | ties[:, None]).T)
        if sum(part.shape[1] for part in self._waiting) >= LATER:
            self._merge()

    def state(self) -> dict[str, NDArray[np.int64]]:
        """What a checkpoint must keep."""
        self._merge()
        return {"lowest": self._lowest.cpu().numpy(), "highest": self._highest.cpu().numpy()}

    def restore(self, state: dict[str, NDArray[np.int64]]) -> None:
        """Go on from a checkpoint."""
        self._lowest = torch.from_numpy(state["lowest"]).to(self._lowest.device)
        self._highest = torch.from_numpy(state["highest"]).to(self._highest.device)
        self._waiting = []

    def join(self, other: "Extremes") -> None:
        """See the images that another one has seen."""
        other._merge()
        self._merge()
        self._keep(torch.cat([self._lowest, other._lowest], dim=1), torch.cat([self._highest, other._highest], dim=1))

    def _merge(self) -> None:
        if not self._waiting:
            return
        waiting = torch.cat(self._waiting, dim=1)
        self._waiting = []
        self._keep(torch.cat([self._lowest, waiting], dim=1), torch.cat([self._highest, waiting], dim=1))

    def _keep(self, lowest: Tensor, highest: Tensor) -> None:
        k = min(self.k, lowest.shape[1])
        self._lowest = lowest.topk(k, dim=1, largest=False).values
        self._highest = highest.topk(k, dim=1, largest=True).values


def values(state: NDArray[np.int64]) -> NDArray[np.float32]:
    """The activations of a state, in its shape (units, k) and order: from the most extreme inwards."""
    bits = (state >> 32).astype(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)


def ties(state: NDArray[np.int64]) -> NDArray[np.int64]:
    """The images of a state, by their tiebreaks, shape (units, k)."""
    return state & 0xFFFFFFFF


def drawn_ties(seed: int, count: int) -> NDArray[np.int64]:
    """The tiebreak of every image of a set, shape (count,)."""
    return generator(seed, "ties").permutation(count)


def _ordered(activations: Tensor) -> Tensor:
    """float32 as int64 in the same order; −0 and 0 are the same."""
    bits = (activations + 0.0).contiguous().view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
