"""Delays inside 2-D convolutions: every element of a kernel has its own.

Legend: T time steps, B batch, C input channels, N output channels, H rows, W columns, h and w rows
and columns of a kernel, K delay taps, E elements per synapse.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..parts import scanned
from .synaptic import DelayLinear


class DelayConv2d(nn.Module):
    """2-D convolution whose kernel elements have a weight and a delay each: ``y[t, n, r, q] = sum_c
    sum_ij w x[t - d, c, r + i, q + j]``, w and d of (n, c, i, j).

    It is a ``DelayLinear`` from the C h w numbers of a place's surroundings to N channels, in
    ``synapses``: taps, rounding, clamping, loading and backends are its own.

    Args:
        c_in, c_out: channels C and N.
        kernel_size: h = w, odd.
        max_delay_steps: K, the number of taps; delays lie in 0..K-1 steps.
        stride: of the places.
        padding: zeros around the edges; None: kernel_size // 2.
        options: further arguments of ``DelayLinear`` (``delays``, ``version``, ``sigma``, ``bias``,
            ``kernel_count``, ``backend``).

    Shapes: (T, B, C, H, W) -> (T, B, N, H', W'), channels last in memory. Of ``synapses`` weight
    and position are (E, N, C h w), ordered as ``conv2d.weight.flatten(1)``.

    Raises:
        ValueError: as ``DelayLinear``, or an even ``kernel_size``; in a call, other channels, or
            fewer places than the kernel.

    Source: Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817) along time, for each element of a
    convolution.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int = 3,
        max_delay_steps: int = 5,
        *,
        stride: int = 1,
        padding: int | None = None,
        **options,
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        if options.get("extra_steps"):
            raise ValueError("a convolution with delays has as many steps as its input")
        self.kernel_size, self.stride = kernel_size, stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.synapses = DelayLinear(c_in * kernel_size**2, c_out, max_delay_steps, **options)

    def check(self, c_in: int, c_out: int) -> None:
        """ValueError unless it goes from so many channels to so many."""
        _, N, fan_in = self.synapses.weight.shape
        if (fan_in, N) != (c_in * self.kernel_size**2, c_out):
            raise ValueError(
                f"the convolution with delays goes from {fan_in // self.kernel_size**2} to {N} "
                f"channels, and the block from {c_in} to {c_out}"
            )

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Input current of the neurons."""
        return self.scan(x_TBCHW)[0]

    def scan(self, x_TBCHW: Tensor, history: Tensor | None = None) -> tuple[Tensor, Any]:
        """Like ``forward``, carrying on after ``history``, what the last call returned (None:
        silence).
        """
        (T, B, C, H, W), k = x_TBCHW.shape, self.kernel_size
        if C * k * k != self.synapses.weight.shape[-1]:
            raise ValueError(
                f"x has {C} channels, and the layer takes {self.synapses.weight.shape[-1] // k**2}"
            )
        if min(H, W) + 2 * self.padding < k:
            raise ValueError(
                f"x has {H} x {W} places, fewer than a kernel of {k} x {k} with padding "
                f"{self.padding} needs"
            )
        patches = F.unfold(x_TBCHW.flatten(0, 1), k, padding=self.padding, stride=self.stride)
        x_TPC = (
            patches.unflatten(0, (T, B)).transpose(2, 3).flatten(1, 2)
        )  # P places of all samples
        y_TPN, history = scanned(self.synapses, x_TPC, history)
        rows, columns = ((n + 2 * self.padding - k) // self.stride + 1 for n in (H, W))
        return y_TPN.unflatten(1, (B, rows, columns)).permute(0, 1, 4, 2, 3), history

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
