"""What the compile check builds: every Triton kernel, in each launch configuration, as types and
constants that need no GPU. Its tests hold what each takes (tests/kernels/compile_kernels.py).
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from ..neurons import NEURONS, NeuronOptions
from ..scan import Scan
from ..surrogate import SURROGATES
from .delay_depthwise import BLOCK as FILTER
from .delay_depthwise import SUMS, correlate_kernel, filter_kernel
from .delay_integer import LANES, delay_integer_kernel, spike_words_kernel
from .delay_kernels import (
    delay_coef_kernel,
    delay_conv_kernel,
    delay_dw_kernel,
    delay_dw_sum_kernel,
    delay_split_kernel,
)
from .delay_launch import CONV_CONFIGS, KINDS, PARTS, SPLIT, dw_config
from .delay_one_hot import CHANNELS, ROWS, spike_planes_kernel
from .events import BLOCK as EVENTS
from .events import count_events_kernel, event_words_kernel, latest_kernel
from .lif import STEPS, STEPS_FWD, lif_bwd_arguments, lif_fwd_arguments
from .lif_kernels import lif_bwd_kernel, lif_fwd_kernel
from .norm import BLOCK, TILE, TILE_BWD, norm_bwd_kernel, norm_fwd_kernel, running_kernel
from .readout import (
    STEPS_READOUT,
    readout_bwd_arguments,
    readout_bwd_kernel,
    readout_fwd_arguments,
    readout_fwd_kernel,
)
from .recurrent import (
    LAUNCH,
    recurrent_bwd_arguments,
    recurrent_bwd_kernel,
    recurrent_fwd_arguments,
    recurrent_fwd_kernel,
)


class Variant(NamedTuple):
    """One compilation of a kernel: argument types, constants and launch settings."""

    name: str
    kernel: Any
    types: dict[str, str]
    constexprs: dict[str, object]
    num_warps: int = 4
    num_stages: int = 2
    tensor_cores: bool = False


def variants() -> list[Variant]:
    """All of them; no two share a name."""
    delays = (*_delay(), *_split(), *_taps(), *_integer(), *_depthwise())
    return [*_lif(), *_readout(), *_recurrent(), *delays, *_norm(), *_events()]


# -- scans ---

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def _scan(name: str, kernel, steps: int, arguments: dict) -> Variant:
    arguments = arguments | dict(Q=steps, BN=32, T=1, B=1, N=1)
    return _of_arguments(name, kernel, arguments, num_warps=1)


def _of_arguments(name: str, kernel, arguments: dict, **launch: int) -> Variant:
    types, constexprs = {}, {}
    for parameter in kernel.params:
        value = arguments[parameter.name]
        if torch.is_tensor(value):
            types[parameter.name] = TYPES[value.dtype]
        elif value is None or parameter.is_constexpr:
            types[parameter.name], constexprs[parameter.name] = "constexpr", value
        else:
            types[parameter.name] = "fp32" if isinstance(value, float) else "i32"
    return Variant(name, kernel, types, constexprs, **launch)


# dtype, normalised, dropout mask, reset, reset detached, state detached
CASES = [
    (torch.bfloat16, True, "held", "hard", True, False),  # a hidden layer in training
    (torch.float32, False, None, "hard", True, False),
    (torch.float32, True, "step", "soft", False, False),
    (torch.float16, True, None, "none", False, True),
]


def _lif() -> Iterator[Variant]:
    """Over neurons, dtypes, resets, masks and surrogates; some with potentials; one of them packed,
    as at evaluation.
    """
    surrogates = itertools.cycle(SURROGATES)
    compiled = [name for name, entry in NEURONS.items() if entry.charge]
    for neuron, case in itertools.product(compiled, CASES):
        scan = _some_scan(neuron, *case, next(surrogates))
        states = [torch.empty(1, 1, device="meta") for _ in NEURONS[neuron].states]
        if case == CASES[0]:  # from rest, and nobody uses the state after the last step
            states = []
        name = f"{neuron}_{TYPES[scan.x.dtype][1:]}_{scan.reset}_{case[2]}"
        fwd = lif_fwd_arguments(scan, states)
        yield _scan(f"lif_fwd_{name}", lif_fwd_kernel, STEPS_FWD, fwd)
        recorded, full = (fwd["checkpoints"], fwd["bits"]), bool(states)
        learned = full or any(c.learned for c in NEURONS[neuron].constants.values())
        bwd = lif_bwd_arguments(scan, scan.x, states, *recorded, full, learned)
        yield _scan(f"lif_bwd_{name}", lif_bwd_kernel, STEPS, bwd)
        if neuron in ("lif", "adlif") and case == CASES[1]:  # of one state and of two
            fwd = lif_fwd_arguments(scan, states, potentials=True)
            yield _scan(f"lif_fwd_{name}_potentials", lif_fwd_kernel, STEPS_FWD, fwd)
            bwd = lif_bwd_arguments(scan, scan.x, states, *recorded, full, learned, fwd["u"])
            yield _scan(f"lif_bwd_{name}_potentials", lif_bwd_kernel, STEPS, bwd)
        if neuron == compiled[-1] and case == CASES[-1]:
            packed = lif_fwd_arguments(scan, states, packed=True)
            yield _scan(f"lif_fwd_{name}_packed", lif_fwd_kernel, STEPS_FWD, packed)


def _some_scan(
    neuron: str,
    dtype: torch.dtype,
    norm: bool,
    mask: str | None,
    reset: str,
    detach_reset: bool,
    detach_state: bool,
    surrogate: str,
) -> Scan:
    """Tensors without memory: a variant is a matter of types."""
    entry, vector = NEURONS[neuron], torch.empty(1, device="meta")
    assert entry.coefficients
    constants = dict.fromkeys(entry.constants, 1.0)
    n = len(entry.coefficients(constants, NeuronOptions()))
    return Scan(
        x=torch.empty(1, 1, 1, dtype=dtype, device="meta"),
        scale=vector if norm else None,
        shift=vector if norm else None,
        coefficients=[vector] * n,
        seed=torch.empty((), dtype=torch.int64, device="meta") if mask else None,
        neuron=neuron,
        v_threshold=1.0,
        rest=0.0,
        reset=reset,
        detach_reset=detach_reset,
        detach_state=detach_state,
        surrogate=surrogate,
        p_drop=0.5,
        mask=mask or "held",
    )


def _readout() -> Iterator[Variant]:
    """Over dtypes; with a value per neuron, and as a network trains: one for all, from rest."""
    plane = torch.empty(1, 1, device="meta")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.empty(1, 1, 1, dtype=dtype, device="meta")
        for full in (True, False):
            v, keep = (plane, plane[0]) if full else (None, 0.5)
            name = TYPES[dtype][1:] + ("" if full else "_rest")
            fwd = readout_fwd_arguments(x, v, keep)
            bwd = readout_bwd_arguments(x, x, v, keep, full, full)
            yield _scan(f"readout_fwd_{name}", readout_fwd_kernel, STEPS_READOUT, fwd)
            yield _scan(f"readout_bwd_{name}", readout_bwd_kernel, STEPS_READOUT, bwd)


def _recurrent() -> Iterator[Variant]:
    """Over neurons, kinds of delays, resets and surrogates; as at evaluation once; as where states
    have gradients too.
    """
    plane, cube = torch.empty(1, 1, device="meta"), torch.empty(1, 1, 1, device="meta")
    synapses = {"none": (plane, None), "axonal": (plane, plane), "synaptic": (cube, None)}
    surrogates = itertools.cycle(SURROGATES)
    for neuron, kind in itertools.product(("lif", "adlif", "cuba"), synapses):
        reset = "soft" if kind == "synaptic" else "hard"
        how = (torch.float32, False, None, reset, kind != "none", False, next(surrogates))
        scan, start = _some_scan(neuron, *how), torch.empty_like(cube)
        given, name = (*synapses[kind], start, cube), f"{neuron}_{kind}"
        dtrace = torch.empty(1, 1, 1, 1, device="meta") if kind == "synaptic" else None
        fwd = recurrent_fwd_arguments(scan, *given, saves=True)
        yield _of_arguments(f"recurrent_fwd_{name}", recurrent_fwd_kernel, fwd, **LAUNCH)
        bwd = recurrent_bwd_arguments(scan, cube, dtrace, *given, cube, cube)
        yield _of_arguments(f"recurrent_bwd_{name}", recurrent_bwd_kernel, bwd, **LAUNCH)
        if neuron == "adlif":
            plain = recurrent_fwd_arguments(scan, *given, saves=False)
            yield _of_arguments(
                f"recurrent_fwd_{name}_plain", recurrent_fwd_kernel, plain, **LAUNCH
            )


# -- delays ---


def _conv_variant(
    config: str, precision: str, version: str, shared: bool, sign: int, parts: int, stats: bool
) -> Variant:
    ints = ["n_used", "B", "T_in", "T_out", "K", "O", "pitch_o", "pitch_i", "pitch"]
    types = dict(x="*bf16", coef="*fp32", sigma="*fp32", y="*fp32") | dict.fromkeys(ints, "i32")
    constexprs = dict(E=1, SIGN=sign, KIND=KINDS[version], SHARED=shared, P=PARTS[precision])
    constexprs |= dict(XP=parts, RESTART=precision == "highest", STATS=stats)
    counted = parts > 1 and sign < 0  # all parts of a gradient are used
    for name, type_, given in (("used", "*i32", counted), ("stats", "*fp32", stats)):
        (types if given else constexprs)[name] = type_ if given else None
    *tile, warps, stages = CONV_CONFIGS[config]
    constexprs |= dict(zip(("BO", "BI", "BM"), tile, strict=True))
    name = f"delay_conv {config} {precision} {version} sign={sign} parts={parts}"
    name += f" shared={shared} stats={stats}"
    return Variant(name, delay_conv_kernel, types, constexprs, warps, stages, True)


def _dw_variant(precision: str, version: str, shared: bool, parts: int, sigma: bool) -> Variant:
    kind = KINDS[version]
    config = dw_config(precision, version, shared, sigma)
    ints = ["n_used", "B", "T", "S", "K", "N", "C", "pitch_n", "pitch_c", "rows"]
    types = dict.fromkeys(("dy", "x"), "*bf16") | dict.fromkeys(("p", "sigma", "part"), "*fp32")
    constexprs = dict(E=1, KIND=kind, SHARED=shared, MOMENTS=3 if sigma else 2)
    constexprs |= dict(P=PARTS[precision], XP=parts, YP=PARTS[precision])
    types |= dict.fromkeys(ints, "i32") | (dict(used="*i32") if parts > 1 else {})
    constexprs |= {} if parts > 1 else dict(used=None)
    *tile, warps, stages = config
    constexprs |= dict(zip(config._fields, tile, strict=False))
    name = f"delay_dw {precision} {version} parts={parts} shared={shared} sigma={sigma}"
    return Variant(name, delay_dw_kernel, types, constexprs, warps, stages, True)


def _delay() -> list[Variant]:
    """Convolution and weight gradient, in the cases that need the most registers."""
    return [
        *(_conv_variant(c, c, "gauss", True, -1, 1, True) for c in PARTS),
        *(_conv_variant(c, c, "gauss", False, 1, PARTS[c], False) for c in PARTS),
        *(_conv_variant(c, c, "max", False, -1, 1, True) for c in PARTS),
        *(_conv_variant(c, c, "v0", True, -1, 1, False) for c in PARTS),  # whole delays
        _conv_variant("highest", "highest", "gauss", False, -1, 3, True),
        _conv_variant("small", "highest", "gauss", False, -1, 3, True),
        _conv_variant("small", "default", "gauss", True, -1, 1, True),
        *(_dw_variant(c, "gauss", True, 1, True) for c in PARTS),
        *(_dw_variant(c, "gauss", True, 1, False) for c in PARTS),
        *(_dw_variant(c, "max", False, 1, True) for c in PARTS),
        _dw_variant("highest", "gauss", False, 3, True),
        _dw_variant("default", "v0", True, 1, False),
    ]


def _split() -> Iterator[Variant]:
    """The parts of an operand."""
    for parts, used in ((3, True), (3, False), (2, False), (1, False)):
        types = dict(x="*fp32", planes="*bf16", R="i32", C="i32", pitch="i32")
        types |= dict(used="*i32") if used else {}
        constexprs = dict(P=parts, **SPLIT) | ({} if used else dict(used=None))
        yield Variant(f"delay_split {parts=} {used=}", delay_split_kernel, types, constexprs)


def _norm() -> Iterator[Variant]:
    """Statistics and their adjoint, in a training step (the gradients of mean and variance are
    absent) and with all that may be given; running statistics.
    """
    for name, absent in (("step", ("dmean", "dvar")), ("all", ()), ("plain", ("gamma", "beta"))):
        ints = dict.fromkeys(("rows", "G", "N", "BM"), "i32")
        floats = ("partial", "gamma", "beta", "mean", "var", "scale", "shift")
        types = dict.fromkeys(floats, "*fp32") | ints | dict(eps="fp32")
        yield _without(absent, f"norm_fwd {name}", norm_fwd_kernel, types, TILE)
        ints = dict.fromkeys(("R", "N", "pitch"), "i32")
        floats = ("dy", "y", "mean", "var", "gamma", "dmean", "dvar", "dscale", "dshift")
        types = dict.fromkeys((*floats, "dgamma", "dbeta"), "*fp32") | ints
        types |= dict(planes="*bf16", eps="fp32")
        for parts in PARTS.values():
            constexprs = dict(P=parts, **TILE_BWD)
            yield _without(absent, f"norm_bwd {name} {parts=}", norm_bwd_kernel, types, constexprs)
    types = dict.fromkeys(("mean", "var", "running_mean", "running_var"), "*fp32")
    types |= dict(count="*i64", part="fp32", bessel="fp32", N="i32")
    yield Variant("running", running_kernel, types, dict(BLOCK=BLOCK))


def _without(absent: tuple, name: str, kernel, types: dict, constexprs: dict) -> Variant:
    """A variant some of whose tensors are None."""
    absent = tuple(a for a in absent if a in types)
    types = {k: v for k, v in types.items() if k not in absent}
    return Variant(name, kernel, types, constexprs | dict.fromkeys(absent))


def _taps() -> Iterator[Variant]:
    """Per synapse: its coefficients, and its gradient from moments."""
    for version, shared in (("gauss", True), ("gauss", False), ("max", False), ("v0", True)):
        case = dict(KIND=KINDS[version], SHARED=shared)
        ints = ["K", "O", "I", "stride_e", "stride_o", "stride_i", "pitch_o", "pitch_i", "n"]
        types = dict.fromkeys(("w", "p", "sigma", "coef"), "*fp32") | dict.fromkeys(ints, "i32")
        name = f"delay_coef {version} {shared=}"
        yield Variant(name, delay_coef_kernel, types, case | dict(BLOCK=256))
        floats = ("part", "w", "p", "sigma", "dw", "dp", "dsigma")
        types = dict.fromkeys(floats, "*fp32") | dict.fromkeys(("G", "K", "n"), "i32")
        name = f"delay_dw_sum {version} {shared=}"
        constexprs = case | dict(MOMENTS=3, BLOCK=128)
        yield Variant(name, delay_dw_sum_kernel, types, constexprs)


def _integer() -> Iterator[Variant]:
    """Whole delays, for counts and for packed spikes."""
    types = dict(bits="*i32", planes="*bf16") | dict.fromkeys(("R", "C", "W", "pitch"), "i32")
    yield Variant("spike_planes", spike_planes_kernel, types, dict(BR=ROWS, BC=CHANNELS))
    for packed in (True, False):
        x, name = ("*i32", "packed") if packed else ("*bf16", "counts")
        ints = dict.fromkeys(("T", "B", "C", "pitch"), "i32")
        types = dict(x=x, words="*i64") | ints
        constexprs = dict(PACKED=packed, BC=32)
        yield Variant(f"spike_words {name}", spike_words_kernel, types, constexprs)
        ints = dict.fromkeys(("W", "S", "B", "C", "N"), "i32")
        types = dict(words="*i64", x=x, w="*fp32", delay="*i32", y="*fp32") | ints
        constexprs = dict(PACKED=packed, BN=LANES)
        yield Variant(f"delay_integer {name}", delay_integer_kernel, types, constexprs, num_warps=1)


def _depthwise() -> Iterator[Variant]:
    """Delays of channels, forward and its two gradients."""
    for dtype in ("*fp32", "*bf16"):
        ints = dict.fromkeys(("T", "S", "M", "C", "K", "shift"), "i32")
        types = dict(x=dtype, k="*fp32", y=dtype) | ints
        for flip in (False, True):
            name = f"depthwise_filter {dtype[1:]} {flip=}"
            yield Variant(name, filter_kernel, types, dict(FLIP=flip) | FILTER)
        ints = dict.fromkeys(("T", "S", "B", "C", "K", "rows"), "i32")
        types = dict(g=dtype, x=dtype, part="*fp32") | ints
        yield Variant(f"depthwise_correlate {dtype[1:]}", correlate_kernel, types, SUMS)


# -- events ---


def _events() -> Iterator[Variant]:
    """What makes batches: as times are held, and as those of long clips are."""
    types = dict(clip="*i32", begin="*i64", index="*i64", seed="i64", epoch="i32", stream="i32")
    types |= dict(out="*i32", n="i32")
    yield Variant("event_words", event_words_kernel, types, dict(BLOCK=EVENTS))
    for name, t, unit in (("short", "*i32", "*i16"), ("long", "*i64", "*i32")):
        for absent in ((), ("alive",)):
            which = f"{name}{' all' if absent else ''}"
            types = dict(t=t, clip="*i32", alive="*u8", out="*i64", n="i32")
            yield _without(absent, f"latest {which}", latest_kernel, types, dict(BLOCK=EVENTS))
            types = dict(t=t, unit=unit, clip="*i32", alive="*u8", y="*fp32")
            types |= dict.fromkeys(("n", "T", "B", "C"), "i32")
            constexprs = dict(DT=10_000, GROUP=5, BLOCK=EVENTS)
            yield _without(absent, f"count_events {which}", count_events_kernel, types, constexprs)
