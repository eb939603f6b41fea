"""Readout potentials, or spikes of the last layer -> class scores -> loss. Pure functions; LOSSES
has them by name.

Legend: T time steps, B batch, N classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_sum_score(v_TBN: Tensor) -> Tensor:
    """Class scores ``m = sum_t softmax(v_t)``, (T, B, N) -> (B, N). Source: Hammouamri et al. 2024
    (arXiv 2306.17670), section 3.3.
    """
    return v_TBN.softmax(-1).sum(0)


def logit_sum_score(v_TBN: Tensor) -> Tensor:
    """Class scores ``m = mean_t v_t``, (T, B, N) -> (B, N): summed logits, scaled by 1/T so that
    clips of any length weigh alike.
    """
    return v_TBN.mean(0)


def logit_max_score(v_TBN: Tensor) -> Tensor:
    """Class scores ``m = max_t v_t``, (T, B, N) -> (B, N)."""
    return v_TBN.amax(0)


def spike_count_score(s_TBN: Tensor) -> Tensor:
    """Class scores ``m = sum_t s_t``, (T, B, N) -> (B, N): the spikes of each output neuron."""
    return s_TBN.sum(0)


def softmax_sum(v_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Published loss: cross-entropy (with its own log-softmax) of the summed softmax.

    Args:
        v_TBN: readout potentials, (T, B, N), floating.
        label_B: classes, (B,), int64, or the part of each in a mixed sample, (B, N), floating.
        label_smoothing: part of the target spread over all classes, in [0, 1).

    Returns:
        Scalar, mean over the batch.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3.
    """
    return F.cross_entropy(softmax_sum_score(v_TBN), label_B, label_smoothing=label_smoothing)


def logit_sum(v_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the summed logits (mean over time); arguments as ``softmax_sum``."""
    return F.cross_entropy(logit_sum_score(v_TBN), label_B, label_smoothing=label_smoothing)


def tet(v_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the steps of each step's own cross-entropy; arguments as ``softmax_sum``. The score
    is that of ``logit_sum``. Source: Deng et al. 2022 (arXiv 2202.11946), equation 9.
    """
    labels = label_B.expand(len(v_TBN), *label_B.shape).flatten(0, 1)
    return F.cross_entropy(v_TBN.flatten(0, 1), labels, label_smoothing=label_smoothing)


def logit_max(v_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the largest logits over time; arguments as ``softmax_sum``. Where several
    steps share a maximum, they share its gradient.
    """
    return F.cross_entropy(logit_max_score(v_TBN), label_B, label_smoothing=label_smoothing)


def one_hot(label_B: Tensor, N: int, dtype: torch.dtype) -> Tensor:
    """1 for the label and 0 for the others of N classes, (B, N): ``F.one_hot`` without its look at
    the values, for which a GPU would have to wait.
    """
    return (label_B.unsqueeze(-1) == torch.arange(N, device=label_B.device)).to(dtype)


def rate_cross_entropy(s_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the rates of output neurons, ``mean_t s_t``: ``logit_sum`` of spikes.

    Args:
        s_TBN: spikes of one output neuron per class, (T, B, N), 0 or 1, floating.
        label_B, label_smoothing: as ``softmax_sum``.
    """
    return logit_sum(s_TBN, label_B, label_smoothing)


def spike_count_mse(s_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Squared error of the spike counts of output neurons: that of the class shall fire at every
    step, the others never.

        mean over samples and neurons of  (sum_t s_t / T - target)^2

    Args:
        s_TBN: as ``rate_cross_entropy``; counts are divided by T so that clips of any length weigh
            alike.
        label_B: classes, (B,), int64.
        label_smoothing: part of the target spread over all classes, in [0, 1).
    """
    T, _, N = s_TBN.shape
    part_BN = label_B if label_B.ndim == 2 else one_hot(label_B, N, s_TBN.dtype)
    target_BN = part_BN * (1 - label_smoothing) + label_smoothing / N
    return F.mse_loss(spike_count_score(s_TBN) / T, target_BN)


class Loss(NamedTuple):
    """One entry of LOSSES: called as its ``loss``, with the ``score`` that predicts by it.

    ``loss``: (v_TBN, label_B, label_smoothing) -> scalar. ``score``: v_TBN -> class scores (B, N).
    ``probability``: v_TBN -> that of which the loss is a cross-entropy (B, N), so that its softmax
    is what the loss takes for probabilities (for tet, the geometric mean over the steps of theirs);
    None: the loss is none. ``of_spikes``: whether all are of output spikes, not of potentials.
    """

    loss: Callable[..., Tensor]
    score: Callable[[Tensor], Tensor]
    probability: Callable[[Tensor], Tensor] | None = None
    of_spikes: bool = False

    def __call__(self, v_TBN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """As ``loss``."""
        return self.loss(v_TBN, label_B, label_smoothing)


LOSSES = {
    "softmax_sum": Loss(softmax_sum, softmax_sum_score, softmax_sum_score),
    "logit_sum": Loss(logit_sum, logit_sum_score, logit_sum_score),
    "tet": Loss(tet, logit_sum_score, logit_sum_score),
    "logit_max": Loss(logit_max, logit_max_score, logit_max_score),
    "rate_cross_entropy": Loss(
        rate_cross_entropy, spike_count_score, logit_sum_score, of_spikes=True
    ),
    "spike_count_mse": Loss(spike_count_mse, spike_count_score, of_spikes=True),
}
