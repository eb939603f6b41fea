"""The presets, and the networks of presets."""

from typing import Any

from torch import nn

from ..errors import ConfigError, nearest
from .flat import from_flat
from .network import network_settings, new_network

_SHD = dict(
    kind="audio", dt_ms=10.0, units_per_channel=5, n_hidden=256, n_layers=2, max_delay_steps=25,
    tau=1.005, dropout=0.4, epochs=150, batch_size=256, lr=1e-3, lr_max=5e-3, lr_position=0.1,
    weight_decay=1e-5, sigma_end=0.23,
)  # fmt: skip
_SSC = _SHD | dict(n_hidden=512, n_layers=3, max_delay_steps=31, tau=1.5, dropout=0.25)
_DIGITS = _SHD | dict(dataset="spoken-digits", epochs=20, batch_size=64)
_AUDIO_SMALL = _SHD | dict(epochs=20, batch_size=64, n_steps=100, valid_fraction=0.0)
_AUDIO_SMALL_TUNED = _AUDIO_SMALL | dict(  # found on validation speakers only, see docs/log.md
    epochs=160, n_hidden=128, tau=2.0, dropout=0.25, loss="logit_sum",
    label_smoothing=0.1, aug_unit_shift=20.0, aug_unit_scale=0.1, aug_unit_mask=60.0,
    aug_time_scale=0.15, aug_time_shift_ms=50.0, aug_drop=0.2,
)  # fmt: skip

_TRANSFER = dict(  # He et al., AAAI 2024 (arXiv 2303.13077)
    kind="vision", network="vgg", framing="time_bins", n_steps=10, frame_size=48, aug_crop=4,
    valid_fraction=0.0, delays="none", max_delay_steps=3, tau=2.0, v_threshold=0.5,
    decay_input=True, surrogate="piecewise_quadratic", surrogate_alpha=2.0, dropout=0.0,
    transfer="align", optimizer="adamw", lr=5e-3 * 120 / 1024, warmup_epochs=5, weight_decay=0.01,
    epochs=300, batch_size=120,
)  # fmt: skip
_VISION_SMALL = _TRANSFER | dict(  # the same for a few hundred small recordings
    network="small", n_steps=6, frame_size=None, static_fit="place", aug_crop=2, lr=5e-3,
    warmup_epochs=2, epochs=60, batch_size=25, amp=True,
)  # fmt: skip
_SLTT = _TRANSFER | dict(  # Meng et al., ICCV 2023 (arXiv 2302.14311)
    network="vgg11", framing="event_count", aug_crop=0, split="file-order", transfer="off",
    temporal_gradient="sltt", step_lambda=0.05, tau=1.1, v_threshold=1.0, decay_input=False,
    reset="soft", surrogate="triangle", surrogate_alpha=None, optimizer="sgd", momentum=0.9,
    lr_end=0.0, warmup_epochs=0, weight_decay=5e-4, weight_decay_on="all", epochs=300, amp=True,
)  # fmt: skip

_TASK = dict(  # generated clips of 1 ms steps, nothing left to regularise
    kind="audio", dt_ms=1.0, units_per_channel=1, n_layers=1, padding="causal", dropout=0.0,
    valid_fraction=0.0, batch_size=50, lr_max=0.02, lr_position=0.5, weight_decay=0.0,
    sigma_end=0.01, round_fraction=0.3,
)  # fmt: skip
_MEMORY = dict(  # tasks of Khajehabdollahi et al., ICLR 2024 (arXiv 2309.12927)
    kind="memory", network="rate", curriculum="multi-head", n_start=2, threshold=0.98, n_hidden=128,
    batch_size=128, lr=1e-3, lr_tau=1e-2, epochs=100,
)  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {  # `note`: its line in --list, no setting
    "spoken-digits": _DIGITS | dict(
        note="small synthetic data set inside the package: a first run within minutes",
        n_in=140, n_out=20,
    ),
    "shd": _SHD | dict(
        note="Spiking Heidelberg Digits, recipe of arXiv 2306.17670; speakers held out to "
        "validate, last epoch tested, frames on a grid (published: none held out, best epoch on "
        "test, --framing event-published)",
        dataset="shd", n_in=140, n_out=20,
    ),
    "ssc": _SSC | dict(
        note="Spiking Speech Commands, recipe of arXiv 2306.17670; last epoch tested, "
        "frames on a grid (published: the best on validation, --framing event-published)",
        dataset="ssc", n_in=140, n_out=35, epochs=60, batch_size=128,
    ),
    "gsc": _SSC | dict(
        note="Google Speech Commands, log-mel frames, or a file of it that you encode (--dataset "
        "FILE.h5), recipe of arXiv 2306.17670; last epoch tested (published: the best on "
        "validation)",
        dataset="gsc", n_in=140, n_out=35, epochs=100, batch_size=128,
    ),
    "audio-small": _AUDIO_SMALL | dict(
        note="SHD's recipe in 20 epochs, for a small file in SHD's layout",
    ),
    "audio-small-tuned": _AUDIO_SMALL_TUNED | dict(
        note="the recipe that does best on small files in SHD's layout",
    ),
    "dvs": _VISION_SMALL | dict(
        note="20 simulated recordings of scanned digits, taught by other digits: a first run",
        dataset="dvs", static="digits", static_as="saccade", n_labelled=20, batch_size=20,
        test_fraction=0.3, epochs=300, compare=True, n_out=10, size=(34, 34),
    ),
    "nmnist": _VISION_SMALL | dict(
        note="N-MNIST with MNIST's images (--static FOLDER), small network",
        dataset="nmnist", n_out=10, size=(34, 34),
    ),
    "ncaltech101": _TRANSFER | dict(
        note="N-Caltech101 with Caltech101's images, recipe of arXiv 2303.13077; split by image, "
        "last epoch tested (published: in file order, best epoch on test, cool-down left out)",
        dataset="ncaltech101", sampling="class-balanced", drop_last=True, epochs=310,
        cooldown_epochs=10, n_out=101, size=(48, 48),
    ),
    "cifar10dvs": _SLTT | dict(
        note="CIFAR10-DVS step by step (SLTT-2), recipe of arXiv 2302.14311; counts as they are, "
        "bfloat16, last epoch tested (published: 255 times the counts modulo 256, float16, best "
        "epoch on test)",
        dataset="cifar10dvs", lr=0.05, backward_steps=2, batch_size=128, dropout=0.3,
        frame_resize="antialias", step_target="one-hot", n_out=10, size=(48, 48),
    ),
    "dvsgesture": _SLTT | dict(
        note="DVS128-Gesture step by step (SLTT-4), recipe of arXiv 2302.14311; tonic's 1077 and "
        "264 cuts, bfloat16, last epoch tested (published: SpikingJelly's 1176 and 288, float16, "
        "best epoch on test)",
        dataset="dvsgesture", drop_last=True, lr=0.1, n_steps=20, frame_size=None, backward_steps=4,
        batch_size=16, dropout=0.4, step_target=1.0, n_out=11, size=(128, 128),
    ),
    "vision-small": _VISION_SMALL | dict(
        note="small recipe for a folder of recordings, <class>/<recording>.bin",
    ),
    "polychrony": _TASK | dict(
        note="generated: the order in which 8 units fire; chance without delays; few neurons, so "
        "that random delays do not cover it",
        dataset="polychrony", n_in=8, n_out=10, n_steps=60, n_hidden=10, max_delay_steps=41,
        tau=1.3, loss="logit_max", epochs=50, sigma_epochs=20,
    ),
    "localisation": _TASK | dict(
        note="generated: 12 directions of sound by the delay between two ears",
        dataset="localisation", n_in=40, n_out=12, n_steps=200, n_hidden=24, max_delay_steps=21,
        tau=2.0, loss="logit_sum", epochs=30, sigma_epochs=15,
    ),
    "al": _TASK | dict(
        note="generated: at which ear a sound was heard 50 silent steps before the cue; for "
        "recurrent delays",
        dataset="al", network="recurrent", delay_kind="axonal", version="triangle", n_in=3,
        n_out=2, n_steps=400, n_hidden=5, max_delay_steps=61, tau=2.0, loss="logit_sum",
        surrogate_alpha=2.0, epochs=30, sigma_epochs=15, sigma_start=4.0, lr_position=0.1,
        round_fraction=0.4,
    ),
    "drift": _VISION_SMALL | dict(
        note="generated: direction and speed of a moving digit; no single frame tells",
        dataset="drift", transfer="off", n_steps=12, aug_crop=4, delays="learned",
        max_delay_steps=3, tau=1.0, test_fraction=0.25, epochs=20, batch_size=20, amp=False,
        n_out=16, size=(34, 34),
    ),
    "n-parity": _MEMORY | dict(
        note="parity of the last N bits, N by N, tasks and curricula of arXiv 2309.12927; Adam "
        "(published: 500 neurons, SGD with momentum)",
        dataset="n-parity", n_max=20,
    ),
    "n-dms": _MEMORY | dict(
        note="delayed match to sample over N bits, likewise",
        dataset="n-dms", n_max=20,
    ),
}  # fmt: skip
OWN = {
    "audio": "audio-small",
    "vision": "vision-small",
    "memory": "n-parity",
}  # the preset of a file or folder that has none


def preset_settings(name: str) -> dict[str, Any]:
    """Copy of a preset's flat settings, `kind` among them, without its note; ConfigError with the
    nearest name if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: {nearest(name, list(PRESETS))}")
    return {k: v for k, v in PRESETS[name].items() if k != "note"}


def build_model(
    preset: str = "shd", *, backend: str = "auto", dt_ms: float | None = None, **settings: Any
) -> nn.Module:
    """The network of a preset, for example ``build_model("shd", n_hidden=(256, 128))`` or
    ``build_model("nmnist", delays="learned")``.

    Args:
        preset: a key of ``PRESETS``.
        backend: ``auto``, ``reference``, ``fft``, ``triton`` or ``cpu``.
        dt_ms: length of a step in milliseconds; None: the preset's.
        settings: settings of the network, its delays and its neurons that replace the preset's;
            for vision also ``n_steps``, and ``transfer`` (``align``: two heads). Presets for own
            data (``audio-small``, ``audio-small-tuned``, ``vision-small``) need ``n_out`` and
            ``n_in``, or for vision ``size``, (height, width) of the frames in pixels.

    Returns:
        A network in training mode, on the CPU: ``forward`` takes (T, B, n_in), or (T, B, 2, H, W)
        for vision, and returns (T', B, n_out).

    Raises:
        ConfigError: an unknown preset or setting, a value out of range, or a size that is missing.

    Source: see ``NETWORKS``.
    """
    flat = preset_settings(preset)
    known = network_settings(flat["kind"])
    for name in settings:
        if name not in known:
            raise ConfigError(f"{name!r} is no setting of a network: {nearest(name, known)}")
    flat |= settings | {"backend": backend} | ({} if dt_ms is None else {"dt_ms": dt_ms})
    return new_network(from_flat(flat), {})
