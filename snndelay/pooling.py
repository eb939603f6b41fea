"""Mean over as many cells as a readout has features, whatever the size of the frames.

Legend: B batch (steps and samples), C channels, H rows, W columns, P places of a frame, S cells.
"""

import torch
from torch import Tensor, nn

from .kernels.precision import exact


class CellMean(nn.Module):
    """Mean over each of ``n`` x ``n`` cells of a frame, cell i from row ``floor(i H / n)`` to
    ``ceil((i+1) H / n)``: what ``nn.AdaptiveAvgPool2d(n)`` computes, as a product with a small
    matrix, because its backward pass adds by atomics on a GPU and rounds anew in every run.

    Args:
        size: (H, W) of the frames.
        n: cells along each axis; frames of fewer rows or columns repeat theirs.

    Shapes: (B, H, W, C) -> (B, n, n, C), in the dtype of the input, autocast or not.

    Raises:
        ValueError: a size or a number of cells below 1.

    Source: torch's AdaptiveAvgPool2d, in the readout of torchvision's VGG.
    """

    members_SP: Tensor

    def __init__(self, size: tuple[int, int], n: int):
        super().__init__()
        if min(*size, n) < 1:
            raise ValueError(f"{n} cells of a frame of {size} places: both must be 1 or more")
        self.size, self.n = size, n
        self.register_buffer("members_SP", self._made(), persistent=False)

    def _made(self) -> Tensor:
        """Which places a cell has, 0 or 1: float32 would round shares ahead of a .double()."""
        return torch.kron(*(_members(length, self.n) for length in self.size))

    def _load_from_state_dict(self, *given) -> None:
        """Makes it anew: Module.to_empty leaves to chance what is in no state dict."""
        super()._load_from_state_dict(*given)
        with torch.no_grad():
            self.members_SP.copy_(self._made())

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """The means, (B, n, n, C)."""
        with exact(x_BHWC):
            members_SP = self.members_SP.to(x_BHWC.dtype)
            mean_BSC = members_SP @ x_BHWC.flatten(1, 2) / members_SP.sum(1, keepdim=True)
        return mean_BSC.unflatten(1, (self.n, self.n))


def _members(length: int, n: int) -> Tensor:
    """Which places along an axis each of n cells has, (n, length), 0 or 1."""
    cell, place = torch.arange(n)[:, None], torch.arange(length)
    inside = (place >= cell * length // n) & (place < -(-(cell + 1) * length // n))
    return inside.float()
