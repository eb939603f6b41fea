"""Neuron dynamics over all time steps: the scan over any NEURONS entry, and the leaky readout.

Legend: T time steps, B batch, N neurons.
"""

import torch
from torch import Tensor

from . import reference
from .launch import dispatch
from .steps import NEURONS, Constants, NeuronOptions, State


def _cpu_lif(*args):
    from . import cpu  # numba takes a second to import

    return cpu.lif(*args)


def _cpu_readout(*args):
    from . import cpu

    return cpu.readout(*args)


LIF = {"cpu": _cpu_lif, "reference": reference.lif}
READOUT = {"cpu": _cpu_readout, "reference": reference.readout}

# what the compiled scan knows; everything else runs on the reference until it is added there
COMPILED_NEURONS = ("lif", "if", "plif")
COMPILED_SURROGATES = ("atan", "sigmoid", "triangle", "piecewise_quadratic", "slayer")


def why_not_cpu(dtype: torch.dtype, neuron: str, options: NeuronOptions) -> str | None:
    """Why the compiled scan cannot run such a call; None if it can."""
    if neuron not in COMPILED_NEURONS or options.surrogate not in COMPILED_SURROGATES:
        return f"the compiled scan has no {neuron} with surrogate {options.surrogate} yet"
    if dtype != torch.float32:
        return f"the compiled scan takes float32, not {dtype}"
    return "the smooth spike exists in the reference only" if options.smooth else None


def rest(x_TBN: Tensor, neuron: str, options: NeuronOptions) -> State:
    """State of a neuron that has seen no input: potentials at rest, adaptation 0; each (B, N) like
    ``x_TBN[0]``.
    """
    v = options.v_reset if options.reset == "hard" else 0.0
    B, N = x_TBN.shape[1], x_TBN.shape[2:]
    _, *others = NEURONS[neuron].states
    return (x_TBN.new_full((B, *N), v), *(x_TBN.new_zeros((B, *N)) for _ in others))


def lif(
    x_TBN: Tensor,
    state: State | None = None,
    *,
    neuron: str = "lif",
    options: NeuronOptions | None = None,
    backend: str = "auto",
    **constants: Tensor | float,
) -> tuple[Tensor, State]:
    """Runs a spiking neuron over all time steps: ``s, (v_T,) = lif(x, tau=2.0)``.

    Args:
        x_TBN: input current, (T, B, N) with any further axes, T >= 1, floating.
        state: one tensor (B, N) per state variable of the neuron before the first step; None: at
            rest.
        neuron: a key of ``NEURONS``.
        options: threshold, reset and surrogate; None: the defaults of ``NeuronOptions``.
        backend: ``auto``, ``reference`` or ``cpu``.
        constants: the constants of the neuron by name (``tau`` in steps for ``lif``; ``w`` for
            ``plif``; ``tau_u``, ``tau_w``, ``a``, ``b`` for ``adlif``): a float, a scalar tensor or
            (N,); tensors may require gradients.

    Returns:
        Spikes 0/1, shape and dtype of ``x_TBN``, and the state after the last step. Differentiable
        in x, state and constants.

    Raises:
        ValueError: unknown neuron, missing or superfluous constants, state of another shape.
        BackendError: the backend cannot run.

    Source: LIF as in Hammouamri et al. 2024 (arXiv 2306.17670), equations 1 to 3; PLIF Fang et al.
    2021 (arXiv 2007.05785); adLIF Baronig et al. 2024 (arXiv 2408.07517).
    """
    options = options or NeuronOptions()
    _check_neuron(neuron, constants)
    if x_TBN.ndim < 3 or x_TBN.shape[0] == 0:
        raise ValueError(f"lif: x must be (T, B, N) with T >= 1, not {tuple(x_TBN.shape)}")
    state = rest(x_TBN, neuron, options) if state is None else tuple(state)
    if [v.shape for v in state] != [x_TBN.shape[1:]] * len(NEURONS[neuron].states):
        raise ValueError(
            f"lif: {neuron} needs a state ({', '.join(NEURONS[neuron].states)}) "
            f"of shape {tuple(x_TBN.shape[1:])} each, not {[tuple(v.shape) for v in state]}"
        )
    why_not = why_not_cpu(x_TBN.dtype, neuron, options)
    run = dispatch("lif", LIF, backend, x_TBN.device.type, cpu=why_not)
    return run(x_TBN, state, constants, neuron, options)


def _check_neuron(neuron: str, constants: Constants) -> None:
    if neuron not in NEURONS:
        raise ValueError(f"lif: neuron must be one of {', '.join(NEURONS)}, not {neuron!r}")
    wanted = NEURONS[neuron].constants
    if set(constants) != set(wanted):
        raise ValueError(
            f"lif: {neuron} takes the constants ({', '.join(wanted) or 'none'}), "
            f"not ({', '.join(constants) or 'none'})"
        )


def readout(
    x_TBN: Tensor, v_BN: Tensor | None = None, tau: Tensor | float = 2.0, backend: str = "auto"
) -> Tensor:
    """Leaky integrator that never fires: ``v[t] = (1 - 1/tau) v[t-1] + x[t]``.

    Args:
        x_TBN: input current, (T, B, N), T >= 1, floating.
        v_BN: potential before the first step, (B, N); None: 0.
        tau: time constant in steps, >= 1; a float, a scalar tensor or (N,).
        backend: ``auto``, ``reference`` or ``cpu``.

    Returns:
        Potential after each step, (T, B, N); the last one is the state to carry on with.

    Raises:
        ValueError: shapes disagree. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3.
    """
    v_BN = torch.zeros_like(x_TBN[0]) if v_BN is None else v_BN
    if v_BN.shape != x_TBN.shape[1:]:
        raise ValueError(
            f"readout: v must be {tuple(x_TBN.shape[1:])} like one step of x, "
            f"not {tuple(v_BN.shape)}"
        )
    why_not = None if x_TBN.dtype == torch.float32 else f"it takes float32, not {x_TBN.dtype}"
    run = dispatch("readout", READOUT, backend, x_TBN.device.type, cpu=why_not)
    return run(x_TBN, v_BN, tau)
