"""The delay network: hidden blocks of delays and spiking neurons, and a leaky readout behind delays
of its own.

Legend: T time steps, B batch, C input channels, N neurons or classes, K delay taps.
"""

import dataclasses
import itertools

import torch
from torch import Tensor, nn

from .blocks import LIF, DelayLIF, DelayLinear, LeakyReadout
from .errors import ConfigError
from .runs.settings import ModelConfig, preset_settings


class DelayNet(nn.Module):
    """The published network: ``n_layers`` blocks delay -> BatchNorm -> neuron -> dropout, then
    delay -> leaky integrator.

    Args:
        config: sizes and neuron; ``n_in`` and ``n_out`` must be set.
        backend: backend of all its ops.
        dt_ms: length of a step (scales the time constants that are given in milliseconds).

    Shapes: ``forward`` (T, B, n_in) -> (T', B, n_out), T' = T with padding ``causal`` and
    T + (n_layers + 1) (K-1)//2 with padding ``right``. ``.eval()`` rounds the delays on the
    fly.

    Raises:
        ConfigError: ``n_in`` or ``n_out`` is missing.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.
    """

    def __init__(self, config: ModelConfig, backend: str = "auto", dt_ms: float = 10.0):
        super().__init__()
        if config.n_in is None or config.n_out is None:
            raise ConfigError(
                "the network needs n_in and n_out: give both, or a preset that has them"
            )
        self.config = config
        sizes = [config.n_in] + [config.n_hidden] * config.n_layers
        self.blocks = nn.ModuleList(
            DelayLIF(
                self._delays(n_in, n_out, backend),
                self._neurons(n_out, backend, dt_ms),
                dropout=config.dropout,
                dropout_mask=config.dropout_mask,
                batchnorm=config.batchnorm,
            )
            for n_in, n_out in itertools.pairwise(sizes)
        )
        self.delay_out = self._delays(sizes[-1], config.n_out, backend)
        self.readout = LeakyReadout(config.tau, backend=backend)

    def _delays(self, n_in: int, n_out: int, backend: str) -> DelayLinear:
        c = self.config
        K = 1 if c.delays == "none" else c.max_delay_steps
        return DelayLinear(
            n_in,
            n_out,
            K,
            delays=c.delays,
            version=c.version,
            kernel_count=c.kernel_count,
            extra_steps=(K - 1) // 2 if c.padding == "right" else 0,
            backend=backend,
        )

    def _neurons(self, n: int, backend: str, dt_ms: float) -> LIF:
        c = self.config
        return LIF(
            n,
            c.tau,
            neuron=c.neuron,
            dt_ms=dt_ms,
            backend=backend,
            **c.neuron_options(),
        )

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Potentials of the readout, (T', B, n_out)."""
        if not self._packs(x_TBC):
            return self.activity(x_TBC)[0]
        for block in self.blocks:
            x_TBC = block.packed(x_TBC)
        return self.readout(self.delay_out(x_TBC))

    def _packs(self, x_TBC: Tensor) -> bool:
        """Whether spikes travel as bits: evaluation in the Triton kernels."""
        training = any(block.training for block in self.blocks)
        if training or torch.is_grad_enabled() or x_TBC.dtype != torch.float32:
            return False
        backends = {block.neuron.backend for block in self.blocks}
        triton = backends == {"triton"} or (backends == {"auto"} and x_TBC.is_cuda)
        return triton and all(layer.rounded is not False for layer in self.delay_layers())

    def activity(self, x_TBC: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Potentials of the readout, and the spikes of every hidden layer (while training after
        dropout, which silences some and scales the rest so that their mean stays what it was).
        """
        spikes = []
        for block in self.blocks:
            x_TBC = block(x_TBC)
            spikes.append(x_TBC)
        return self.readout(self.delay_out(x_TBC)), spikes

    def scan(self, x_TBC: Tensor, state: list | None = None) -> tuple[Tensor, list]:
        """One chunk of a stream: potentials (T, B, n_out) and the state for the next chunk (None:
        at rest).

        Raises:
            ValueError: the padding is ``right``, so chunks would overlap.
        """
        old = iter(state or [None] * (len(self.blocks) + 2))
        state = []
        for layer in (*self.blocks, self.delay_out, self.readout):
            x_TBC, after = layer.scan(x_TBC, next(old))
            state.append(after)
        return x_TBC, state

    def delay_layers(self) -> list[DelayLinear]:
        """The delay layers from the input to the readout."""
        return [*(block.delay for block in self.blocks), self.delay_out]

    def set_sigma(self, sigma: float) -> None:
        """Sets the width parameter SIG (steps) of all synapses."""
        for layer in self.delay_layers():
            with torch.no_grad():
                layer.sigma.fill_(sigma)

    def clamp_(self) -> None:
        """Puts positions and neuron constants back into their ranges; call it after every optimizer
        step.
        """
        for block in self.blocks:
            block.delay.clamp_()
            block.neuron.clamp_()
        self.delay_out.clamp_()


def build_model(
    preset: str = "shd", *, backend: str = "auto", dt_ms: float | None = None, **settings
) -> DelayNet:
    """The network of a preset, for example ``build_model("shd", n_hidden=128)``.

    Args:
        preset: a key of ``PRESETS``.
        backend: ``auto``, ``reference``, ``fft``, ``triton`` or ``cpu``.
        dt_ms: length of a step; None: the preset's.
        settings: fields of ``ModelConfig`` that replace the preset's.

    Returns:
        A network in training mode, on the CPU: ``forward(x_TBC) -> v_TBN``.

    Raises:
        ConfigError: unknown preset or setting, or a value out of range.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), table of hyper-parameters.
    """
    flat = preset_settings(preset)
    fields = [f.name for f in dataclasses.fields(ModelConfig)]
    unknown = [name for name in settings if name not in fields]
    if unknown:
        raise ConfigError(f"unknown model setting {unknown[0]!r}: choose from {', '.join(fields)}")
    chosen = {k: v for k, v in flat.items() if k in fields} | settings
    return DelayNet(ModelConfig(**chosen), backend, flat["dt_ms"] if dt_ms is None else dt_ms)
