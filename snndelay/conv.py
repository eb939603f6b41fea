"""Blocks of spiking conv nets: axonal delays, convolution, BatchNorm, neuron, dropout.

Legend: T time steps, B batch, C channels, H rows, W columns, R rows of a statistic, K delay taps.

Tensors between blocks are (T, B, C, H, W) in shape and channels last in memory: the neurons see
(T, B, H, W, C) without a copy, with the constants of a channel on the last axis.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import LIF, SpikeDropout, normalisation
from .kernels import Synapses, delay_taps, lif
from .kernels.delay import VERSIONS
from .kernels.dropout import Dropout
from .kernels.neurons import State

POOLS = {None: lambda x, size: x, "average": F.avg_pool2d, "max": F.max_pool2d}


def channels_last(x_TBCHW: Tensor) -> Tensor:
    """The same tensor with the channels innermost in memory; no copy if they are already."""
    return x_TBCHW.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


class AxonalDelay(nn.Module):
    """One learned delay per channel: ``y[t] = sum_i k_i x[t - (K-1) + i]``, the taps k of
    ``kernels.delay_taps`` with weight 1.

    While training, a channel spreads over the K taps as ``version`` says; in ``.eval()`` its
    position is rounded and it is shifted by whole steps, without touching the parameters.

    Args:
        channels: C.
        max_delay_steps: K, the number of taps; delays lie in 0..K-1 steps.
        version: ``gauss``, ``max``, ``v1`` or ``v0``, see ``kernels.delay_taps``.
        sigma: initial width SIG in steps; None: K // 2. A buffer.

    Shapes: ``position`` (C,); ``forward`` (T, B, C, H, W) -> the same.

    Raises:
        ValueError: an unknown ``version``, or sizes below 1.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2, with one delay per axon.
    """

    def __init__(
        self,
        channels: int,
        max_delay_steps: int,
        *,
        version: str = "gauss",
        sigma: float | None = None,
    ):
        super().__init__()
        if version not in VERSIONS:
            raise ValueError(f"version must be one of {', '.join(VERSIONS)}, not {version!r}")
        if min(channels, max_delay_steps) < 1:
            raise ValueError(
                "channels and max_delay_steps must be at least 1, "
                f"not {channels} and {max_delay_steps}"
            )
        K = max_delay_steps
        self.max_delay_steps, self.version = K, version
        self.rounded: bool | None = None  # None: rounded exactly when not training
        self.position = nn.Parameter(torch.empty(channels).uniform_(-(K // 2), K - 1 - K // 2))
        self.register_buffer("sigma", torch.tensor(float(K // 2 if sigma is None else sigma)))

    @property
    def delay_steps(self) -> Tensor:
        """Delay of every channel in steps, (C,), not rounded: ``K - 1 - (K//2 + P)``."""
        K = self.max_delay_steps
        return K - 1 - (K // 2 + self.position.detach())

    @torch.no_grad()
    def clamp_(self) -> None:
        """Puts the positions back onto the window; call it after every optimizer step."""
        K = self.max_delay_steps
        self.position.clamp_(-(K // 2), K - 1 - K // 2)

    def taps(self) -> Tensor:
        """Share of each tap, (C, K); one-hot where the positions are rounded."""
        K, position = self.max_delay_steps, self.position
        rounded = not self.training if self.rounded is None else self.rounded
        if not rounded:
            p_11C = position.view(1, 1, -1)
            synapses = Synapses(torch.ones_like(p_11C), p_11C, self.sigma, K, self.version)
            return delay_taps(synapses)[0]
        place = (position.detach().round().long() + K // 2).clamp(0, K - 1)
        return F.one_hot(place, K).to(position.dtype)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """The input, delayed; zero before t = 0."""
        return self.scan(x_TBCHW)[0]

    def scan(self, x_TBCHW: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like ``forward``, carrying on after ``history``, the K - 1 inputs before ``x`` as (K - 1,
        B, H, W, C) (None: silence). Returns the history for the next chunk as well.
        """
        x_TBHWC = x_TBCHW.permute(0, 1, 3, 4, 2)
        T, K = len(x_TBHWC), self.max_delay_steps
        if history is None:
            history = x_TBHWC.new_zeros(K - 1, *x_TBHWC.shape[1:])
        x_TBHWC = torch.cat([history, x_TBHWC])
        first, *taps = self.taps().to(x_TBHWC.dtype).unbind(1)
        y_TBHWC = x_TBHWC[:T] * first
        for i, tap_C in enumerate(taps, 1):
            y_TBHWC = torch.addcmul(y_TBHWC, x_TBHWC[i : i + T], tap_C)
        return y_TBHWC.permute(0, 1, 4, 2, 3), x_TBHWC[T:]

    def extra_repr(self) -> str:
        return (
            f"{len(self.position)}, max_delay_steps={self.max_delay_steps}, version={self.version}"
        )


class ConvLIF(nn.Module):
    """Pooling -> axonal delays -> convolution without bias -> BatchNorm over steps, samples and
    places -> neuron -> dropout on the spikes.

    Args:
        c_in, c_out: channels.
        kernel_size: odd; zeros pad the edges.
        stride: of the convolution.
        pool: ``average`` or ``max`` over 2 x 2 places; None: no pooling. It stands at the start,
            so that what a block takes and gives are spikes.
        delay: delays of the input channels; None: none.
        dropout, dropout_mask: see ``SpikeDropout``.
        tau, neuron, backend, options: see ``LIF``.

    Shapes: (T, B, c_in, H, W) -> (T, B, c_out, H', W').

    Raises:
        ValueError: an unknown ``pool``, or as ``LIF`` and ``SpikeDropout``; training on a single
            step, sample and place.

    Source: He et al. 2024 (arXiv 2303.13077), section 4; Meng et al. 2023 (arXiv 2302.14311).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        pool: str | None = None,
        delay: AxonalDelay | None = None,
        dropout: float = 0.0,
        dropout_mask: str = "held",
        tau: float = 2.0,
        neuron: str = "lif",
        backend: str = "auto",
        **options,
    ):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool must be None, average or max, not {pool!r}")
        self.pool, self.delay = pool, delay
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.conv.to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(c_out)
        self.neuron = LIF(c_out, tau, neuron=neuron, backend=backend, **options)
        self.dropout = SpikeDropout(dropout, dropout_mask)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes after dropout of neurons that start at rest."""
        return self.scan(x_TBCHW)[0]

    def activity(self, x_TBCHW: Tensor) -> list[Tensor]:
        """Spikes of every layer of neurons: here one."""
        return [self(x_TBCHW)]

    def scan(
        self,
        x_TBCHW: Tensor,
        state: tuple | None = None,
        potentials: bool = False,
        plus_TBHWC: Tensor | None = None,
    ) -> tuple:
        """Like ``forward``, carrying on from ``state``.

        Args:
            state: what the last call returned: delay history, neuron state, seed of the dropout
                mask; None: at rest.
            potentials: whether to return the membrane potentials too.
            plus_TBHWC: added to the normalised current (a shortcut).

        Returns:
            Spikes (T, B, C, H, W) and the state; with ``potentials`` also the potentials after the
            reset of every step, (T, B, C, H, W), float32 (float64 for float64) and with gradient.
        """
        history, v, seed = state or (None, None, None)
        x_TBCHW = POOLS[self.pool](x_TBCHW.flatten(0, 1), 2).unflatten(0, x_TBCHW.shape[:2])
        if self.delay is not None:
            x_TBCHW, history = self.delay.scan(x_TBCHW, history)
        y_BHWC = self.conv(x_TBCHW.flatten(0, 1)).permute(0, 2, 3, 1)
        norm = normalisation(self.norm, y_BHWC.flatten(1, 2), self.neuron.backend)
        y_TBHWC = y_BHWC.unflatten(0, x_TBCHW.shape[:2])
        if plus_TBHWC is not None:
            y_TBHWC, norm = (y_TBHWC * norm[0] + norm[1] + plus_TBHWC).to(y_TBHWC.dtype), None
        dropout = self.dropout.draw_after(seed, y_TBHWC.device)
        s_TBHWC, v, *u_TBHWC = self._fire(y_TBHWC, v, norm, dropout, potentials)
        s_TBCHW, *u_TBCHW = (a.permute(0, 1, 4, 2, 3) for a in (s_TBHWC, *u_TBHWC))
        return s_TBCHW, (history, v, dropout.seed if dropout else None), *u_TBCHW

    def _fire(
        self,
        y_TBHWC: Tensor,
        v: State | None,
        norm: tuple[Tensor, Tensor] | None,
        dropout: Dropout | None,
        potentials: bool,
    ) -> tuple:
        """Spikes, state and, step by step if asked for, the potentials."""
        how = dict(norm=norm, backend=self.neuron.backend, **self.neuron.settings())
        if not potentials:
            return lif(y_TBHWC, v, dropout=dropout, **how)
        spikes, us_BHWC = [], []
        for y_1BHWC in y_TBHWC.split(1):
            s_1BHWC, v = lif(y_1BHWC, v, dropout=dropout, **how)
            spikes.append(s_1BHWC)
            us_BHWC.append(v[0])
            if dropout and dropout.mask == "step":
                dropout = self.dropout.draw(y_TBHWC.device)
        return torch.cat(spikes), v, torch.stack(us_BHWC)


class ResidualLIF(nn.Module):
    """Two ``ConvLIF`` with a shortcut around them into the current of the second; where size or
    width change, the shortcut is a 1x1 convolution with BatchNorm.

    Args:
        c_in, c_out: channels.
        stride: of the first convolution and of the shortcut.
        delay: delays of the first convolution's input; the shortcut has none.
        settings: further arguments of ``ConvLIF``, without pool.

    Shapes: (T, B, c_in, H, W) -> (T, B, c_out, H', W').

    Source: He et al. 2016 (arXiv 1512.03385), the shortcut ahead of the neuron as in Zheng et al.
    2021 (arXiv 2011.05280).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        stride: int = 1,
        delay: AxonalDelay | None = None,
        **settings,
    ):
        super().__init__()
        self.first = ConvLIF(c_in, c_out, stride=stride, delay=delay, **settings)
        self.second = ConvLIF(c_out, c_out, **settings)
        self.shortcut = nn.Identity()
        if stride > 1 or c_in != c_out:
            conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(c_out))
            self.shortcut.to(memory_format=torch.channels_last)

    @property
    def delay(self) -> AxonalDelay | None:
        """Delays of the block's input."""
        return self.first.delay

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes after dropout of neurons that start at rest."""
        return self.scan(x_TBCHW)[0]

    def activity(self, x_TBCHW: Tensor) -> list[Tensor]:
        """Spikes of both layers of neurons."""
        s_TBCHW = self.first(x_TBCHW)
        return [s_TBCHW, self.second.scan(s_TBCHW, plus_TBHWC=self._around(x_TBCHW))[0]]

    def scan(self, x_TBCHW: Tensor, state: tuple | None = None, potentials: bool = False) -> tuple:
        """As ``ConvLIF.scan``; the potentials are those of the second layer."""
        first, second = state or (None, None)
        s_TBCHW, first = self.first.scan(x_TBCHW, first)
        plus_TBHWC = self._around(x_TBCHW)
        s_TBCHW, second, *u_TBCHW = self.second.scan(s_TBCHW, second, potentials, plus_TBHWC)
        return s_TBCHW, (first, second), *u_TBCHW

    def _around(self, x_TBCHW: Tensor) -> Tensor:
        y_BHWC = self.shortcut(x_TBCHW.flatten(0, 1)).permute(0, 2, 3, 1)
        return y_BHWC.unflatten(0, x_TBCHW.shape[:2])
