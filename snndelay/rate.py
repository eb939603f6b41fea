"""Leaky rate neurons that hear each other, with a time constant of their own each.

Legend: T time steps, B batch, C input channels, N neurons.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.01  # of the activation below 0


class LeakyRate(nn.Module):
    """A recurrent layer of leaky rate neurons, (T, B, C) -> (T, B, N):

        r_i[t] = f((1 - 1/tau_i) r_i[t-1] + I_i[t] / tau_i)
        I_i[t] = sum_j W_ij r_j[t-1] + sum_c V_ic x_c[t] + b_i

    with f the leaky ReLU of slope 0.01, and W_ii = 0. It starts at r = 0.

    Args:
        n_in, n_neurons: C and N.
        tau: largest time constant at the start, in steps, >= 1; each is drawn uniformly from 1 to
            it.
        learned: whether the time constants are parameters; ``clamp_`` keeps them at 1 or more.

    ``tau`` (N,), ``weight`` W (N, N), whose diagonal is not used, and ``input`` with V and b.

    Raises:
        ValueError: tau < 1.

    Source: Khajehabdollahi et al. 2024 (arXiv 2309.12927), equation 1; its two biases are one here.
    """

    def __init__(self, n_in: int, n_neurons: int, tau: float = 2.0, *, learned: bool = True):
        super().__init__()
        if not tau >= 1:
            raise ValueError(f"tau must be at least 1 step, not {tau}")
        bound = 1 / math.sqrt(n_neurons)
        self.weight = nn.Parameter(torch.empty(n_neurons, n_neurons).uniform_(-bound, bound))
        self.input = nn.Linear(n_in, n_neurons)
        drawn = 1 + (tau - 1) * torch.rand(n_neurons)
        self.tau = nn.Parameter(drawn, requires_grad=learned)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Puts the time constants back to 1 or more; call it after every optimizer step."""
        self.tau.clamp_(min=1.0)

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Rates after each step, (T, B, N)."""
        return self.scan(x_TBC)[0]

    def scan(self, x_TBC: Tensor, r_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rates after each step, and the last ones, which are the state; ``r_BN`` None: at 0."""
        leak_N = 1 / self.tau
        # leak and recurrence are one matrix, so that a step is one product
        off_diagonal_NN = self.weight - torch.diag(self.weight.diagonal())
        step_NN = (torch.diag(1 - leak_N) + leak_N[:, None] * off_diagonal_NN).T
        current_TBN = leak_N * self.input(x_TBC)
        if r_BN is None:
            r_BN = torch.zeros_like(current_TBN[0])
        rates = []
        for current_BN in current_TBN:
            r_BN = F.leaky_relu(torch.addmm(current_BN, r_BN, step_NN), SLOPE)
            rates.append(r_BN)
        return torch.stack(rates), r_BN
