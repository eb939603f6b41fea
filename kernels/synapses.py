"""What a layer of delayed synapses is, as every op and every backend takes it.

Legend: E elements per synapse (``kernel_count``), N neurons, C input channels, K delay taps.
"""

from typing import NamedTuple

from torch import Tensor


class Synapses(NamedTuple):
    """Weight and delay of every synapse: its kernel is ``k_i = sum_e weight X_i(position, sigma)``.

    See ``delay_taps`` for X. Tap i delays by ``K - 1 - i`` steps, so an element delays by
    ``K - 1 - (K // 2 + position)`` steps.
    """

    weight: Tensor
    """(E, N, C), floating."""
    position: Tensor
    """Place of each element among the taps, in steps from the middle one: (E, N, C), in
    [-(K // 2), K - 1 - K // 2]."""
    sigma: Tensor
    """Width parameter SIG >= 0 in steps, () or (E, N, C); unused by ``v0`` and ``v1``."""
    K: int
    """Number of taps, that is of possible delays."""
    version: str = "gauss"
    """Shape of the taps: ``v0`` bilinear, ``v1`` triangle, ``max`` triangle of width SIG + 1,
    ``gauss`` of width SIG + 0.27."""
