"""The settings of a run: three frozen dataclasses, and the presets that fill them.

Field names are unique across the three classes, so one flat namespace serves the command line
(`--max-delay-steps 25`), YAML files and a run's `config.json`. The text under a field is its help.
"""

import dataclasses
from dataclasses import dataclass

from ..data.vision.images import CHANNELS, FITS
from ..data.vision.sliding import SCHEDULES
from ..data.vision.split import SPLITS
from ..delays import DELAYS
from ..errors import ConfigError, nearest
from ..gradients import GRADIENTS
from ..kernels import BACKENDS, NEURONS, SURROGATES
from ..kernels.delay import VERSIONS
from ..losses import LOSSES
from ..networks import NETWORKS

FRAMINGS = ("grid", "event", "time_bins", "event_count", "time_window")
STATIC_FORMS = ("image", "saccade")
OPTIMIZERS = ("adam", "adamw", "sgd")
TRANSFERS = ("off", "align", "finetune")
PROTOCOLS = ("clean", "best-on-test")

PADDINGS = ("right", "causal")
RESETS = ("hard", "soft", "none")
DROPOUT_MASKS = ("held", "step")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class DataConfig:
    """Which recordings, and how their events become frames."""

    dataset: str = "spoken-digits"
    """name of a data set (see --list), an HDF5 file in SHD's layout, or a folder of recordings"""
    test_file: str | None = None
    """HDF5 file with the test clips; needed when dataset is a file"""
    static: str | None = None
    """images of the same classes to learn from; a folder of class folders, an .npz or digits"""
    static_channel: str = "v"
    """v or last; grey value of a colour image: V of HSV, or the last colour channel"""
    static_fit: str = "resize"
    """resize or place; resize: an image fills the frame; place: it covers 28/34 of it, as in the
    recordings of N-MNIST"""
    static_as: str = "image"
    """image or saccade; image: shown at every step; saccade: as a simulated recording of it"""
    root: str = "~/.cache/snndelay"
    """folder that holds the named data sets"""
    download: bool = False
    """fetch a named data set that is missing from root"""
    dt_ms: float = 10.0
    """length of one frame in milliseconds; cameras: of a frame with framing window"""
    units_per_channel: int = 5
    """neighbouring units summed into one input channel (5: 700 units -> 140 channels)"""
    n_steps: int | None = None
    """frames per clip, cut or zero-padded; null (sounds): as the longest clip of the batch"""
    framing: str = "grid"
    """sounds: grid (fixed time steps) or event (each frame starts at its first event); cameras:
    time_bins (n_steps equal parts), event_count or time_window (dt_ms each)"""
    events_per_step: int | None = None
    """cameras, framing count: events in each frame; null: equal parts"""
    frame_size: int | None = None
    """cameras: height and width to which frames are resized; null: those of the sensor"""
    cache: bool = True
    """cameras: keep the frames on disk, in the folder frames of root"""
    split: str = "by-image"
    """cameras: by-image (no image of a test recording in training) or file-order (90/10 in file
    order, which can leak)"""
    n_labelled: int | None = None
    """cameras: recordings to train on; as many of each class; null: all but the test part"""
    test_fraction: float | None = None
    """cameras: part of the recordings for testing; null: all others with n_labelled, else the
    official test part or 0.1"""
    protocol: str = "clean"
    """clean or best-on-test; best-on-test also tests every epoch and names the best-on-test"""
    valid_fraction: float = 0.1
    """part of the training clips held out to validate; by speaker if known; 0: none"""
    batch_size: int = 128
    """clips per training step"""
    workers: int = 0
    """processes that prepare batches; 0: the main process"""
    aug_time_shift_ms: float = 0.0
    """augmentation: largest shift in time, either way, in milliseconds"""
    aug_unit_shift: float = 0.0
    """augmentation: largest shift along the input units, either way, in units"""
    aug_unit_scale: float = 0.0
    """augmentation: largest relative stretch of the unit axis, 0.1 for 10 percent"""
    aug_time_scale: float = 0.0
    """augmentation: largest relative stretch of time, 0.1 for 10 percent"""
    aug_unit_jitter: float = 0.0
    """augmentation: standard deviation of each event's unit, in units"""
    aug_time_jitter_ms: float = 0.0
    """augmentation: standard deviation of each event's time, in milliseconds"""
    aug_drop: float = 0.0
    """augmentation: probability that an event is dropped"""
    aug_time_mask_ms: float = 0.0
    """augmentation: longest stretch of time that is silenced, in milliseconds"""
    aug_unit_mask: float = 0.0
    """augmentation: widest band of units that is silenced, in units"""
    aug_mix: float = 0.0
    """augmentation: probability that a clip becomes a blend of two clips of its class"""
    aug_crop: int = 0
    """augmentation: largest shift of the frames, in pixels, either way"""
    aug_flip: float = 0.0
    """augmentation: probability that frames are mirrored left to right"""
    aug_rotate: float = 0.0
    """augmentation: largest rotation of the frames, in degrees, either way"""

    def __post_init__(self) -> None:
        _check(
            self,
            framing=FRAMINGS,
            protocol=PROTOCOLS,
            split=SPLITS,
            static_channel=CHANNELS,
            static_as=STATIC_FORMS,
            static_fit=FITS,
        )


@dataclass(frozen=True)
class ModelConfig:
    """The network: layers of delays or convolutions, spiking neurons, and a readout."""

    network: str = "delay"
    """delay (sounds), or for cameras vgg, vgg11, resnet18 or small"""
    n_in: int | None = None
    """input channels; null: from the data"""
    n_hidden: int = 256
    """neurons per hidden layer"""
    n_layers: int = 2
    """hidden layers"""
    n_out: int | None = None
    """classes; null: from the data"""
    max_delay_steps: int = 25
    """taps K of every synapse; delays lie in 0 .. K-1 steps; convolutions: per input channel"""
    delays: str = "learned"
    """learned, fixed (random) or none (K = 1)"""
    version: str = "gauss"
    """shape of a delay's tap weights in training: gauss, max, v1 or v0"""
    kernel_count: int = 1
    """delayed elements per synapse, each with its own weight and position"""
    padding: str = "right"
    """right: every layer adds (K-1)//2 steps on the right; causal: same length"""
    neuron: str = "lif"
    """hidden neuron: lif, if, plif or adlif"""
    tau: float = 1.005
    """membrane time constant in steps"""
    v_threshold: float = 1.0
    """membrane potential at which a neuron spikes"""
    reset: str = "hard"
    """after a spike: hard (to 0), soft (minus the threshold) or none"""
    decay_input: bool = False
    """divide the input by tau"""
    detach_reset: bool = True
    """no gradient through the reset"""
    surrogate: str = "atan"
    """derivative of the spike: atan, sigmoid, triangle, piecewise_quadratic or slayer"""
    surrogate_alpha: float | None = None
    """sharpness of the surrogate; null: the usual one of its shape (5 for atan)"""
    dropout: float = 0.4
    """part of the hidden neurons silenced in training; see dropout_mask"""
    dropout_mask: str = "held"
    """held: one mask per clip for all steps; step: a new mask at every step"""
    batchnorm: bool = True
    """normalise every neuron's input over time and batch"""

    def __post_init__(self) -> None:
        _check(
            self,
            network=("delay", *NETWORKS),
            delays=DELAYS,
            version=VERSIONS,
            padding=PADDINGS,
            neuron=tuple(NEURONS),
            reset=RESETS,
            surrogate=tuple(SURROGATES),
            dropout_mask=DROPOUT_MASKS,
        )
        if self.neuron == "plif" and self.tau <= 1:
            raise ConfigError(f"tau is {self.tau}: a plif neuron needs tau above 1")

    def neuron_options(self) -> dict:
        """Threshold, reset and surrogate by the names that ``layers.LIF`` gives them."""
        names = ("v_threshold", "reset", "decay_input", "detach_reset", "surrogate")
        return {name: getattr(self, name) for name in names} | {"alpha": self.surrogate_alpha}


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, schedules and where the results go."""

    epochs: int = 150
    """passes over the training clips"""
    optimizer: str = "adam"
    """cameras: adamw, sgd or adam; sounds take adam"""
    momentum: float = 0.9
    """optimizer sgd: its momentum"""
    lr: float = 1e-3
    """sounds: constant learning rate, used when lr_max is null; cameras: rate after warm-up"""
    lr_max: float | None = 5e-3
    """sounds: peak learning rate of weights; the one-cycle schedule starts at 1/25 of it"""
    lr_end: float = 1e-5
    """cameras: learning rate at the end of its cosine schedule"""
    warmup_epochs: int = 0
    """cameras: epochs in which the learning rate rises linearly from 1e-6 to lr"""
    lr_position: float = 0.1
    """learning rate of the delay positions, cosine to 0 (cameras: as lr)"""
    weight_decay: float = 1e-5
    """on synaptic weights only"""
    loss: str = "softmax_sum"
    """softmax_sum (published, sounds), logit_sum, or tet (cameras, sltt): the mean of a loss
    at every step"""
    step_lambda: float = 1e-3
    """cameras: part of the squared error of the outputs in the loss"""
    step_target: float = 0.5
    """cameras: what the squared error pulls the outputs to"""
    transfer: str = "off"
    """cameras: align, finetune or off; align: learn from static images too, as published;
    finetune: from images first, then from events"""
    pretrain_epochs: int | None = None
    """transfer finetune: epochs with images before those with events; null: half of all"""
    coefficient: str = "learned"
    """transfer align: weight of the alignment per step: learned, off (1), or a number c"""
    domain_weight: float = 0.5
    """transfer align: weight of the alignment loss in the total"""
    sliding: str = "power"
    """transfer align: how the probability rises with which an image gives way to its recording:
    power, linear, cosine, step or off"""
    sliding_power: float = 3.0
    """sliding power: its exponent"""
    sliding_end: float = 1.0
    """part of the training after which every image is replaced"""
    temporal_gradient: str = "bptt"
    """bptt, detach_state or sltt; bptt: through time; detach_state: through delays, but not
    membranes; sltt: step by step, in memory that does not grow with the steps"""
    backward_steps: int | None = None
    """sltt: random steps per batch that carry a gradient (SLTT-K); null: all"""
    recompute: bool = False
    """keep packed spikes only and compute layers again in the backward pass; exact"""
    amp: bool = False
    """products in bfloat16, neurons in float32"""
    compare: bool = False
    """cameras: train a second time on events alone and show both"""
    label_smoothing: float = 0.0
    """part of the target spread over all classes"""
    sigma_start: float | None = None
    """width parameter of the delay kernel at the start, in steps; null: K // 2"""
    sigma_end: float = 0.23
    """width parameter of the delay kernel at the end (0.23: effective width 0.5 steps)"""
    sigma_epochs: int | None = None
    """epochs until the width reaches sigma_end; null: epochs // 4"""
    seed: int = 0
    """seed of everything random; weights, split, order, augmentation and dropout"""
    run: str | None = None
    """name of the run's folder; null: dataset-preset-seed, with a number if taken"""
    runs: str = "runs"
    """folder that holds the runs"""
    device: str = "auto"
    """auto, cpu or cuda"""
    threads: int | None = None
    """CPU threads; null: as torch chooses"""
    backend: str = "auto"
    """auto, reference, triton or cpu: which implementation of the kernels runs"""
    grad_clip: float | None = None
    """largest norm of the gradient; null: no limit"""

    def __post_init__(self) -> None:
        _check(
            self,
            loss=tuple(LOSSES),
            device=DEVICES,
            backend=BACKENDS,
            optimizer=OPTIMIZERS,
            transfer=TRANSFERS,
            sliding=tuple(SCHEDULES),
            temporal_gradient=GRADIENTS,
        )
        self.fixed_coefficient()
        if self.backward_steps is not None and self.temporal_gradient != "sltt":
            raise ConfigError("backward_steps belongs to sltt: add --temporal-gradient sltt")
        if self.temporal_gradient == "sltt" and self.loss != "tet":
            raise ConfigError("sltt takes a loss of every step: add --loss tet")

    def fixed_coefficient(self) -> str | float:
        """``learned``, ``off`` or the number c; ConfigError for anything else."""
        if self.coefficient in ("learned", "off"):
            return self.coefficient
        try:
            value = float(self.coefficient)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise ConfigError(
                f"coefficient is {self.coefficient}: give learned, off or a number from 0 to 1"
            )
        return value


Config = DataConfig | ModelConfig | TrainConfig
CONFIGS = (DataConfig, ModelConfig, TrainConfig)

_RANGES: dict[str, tuple[float, float]] = {
    "dt_ms": (0.01, 10_000),
    "units_per_channel": (1, 100_000),
    "n_steps": (1, 1_000_000),
    "valid_fraction": (0, 0.9),
    "batch_size": (1, 1_000_000),
    "workers": (0, 256),
    "aug_time_shift_ms": (0, 10_000),
    "aug_unit_shift": (0, 100_000),
    "aug_unit_scale": (0, 0.9),
    "aug_time_scale": (0, 0.9),
    "aug_unit_jitter": (0, 100_000),
    "aug_time_jitter_ms": (0, 10_000),
    "aug_drop": (0, 0.99),
    "aug_time_mask_ms": (0, 10_000),
    "aug_unit_mask": (0, 100_000),
    "aug_mix": (0, 1),
    "aug_crop": (0, 1000),
    "aug_flip": (0, 1),
    "aug_rotate": (0, 180),
    "events_per_step": (1, 1_000_000_000),
    "frame_size": (4, 4096),
    "n_labelled": (1, 1_000_000_000),
    "test_fraction": (0.001, 0.9),
    "n_in": (1, 1_000_000),
    "n_hidden": (1, 1_000_000),
    "n_layers": (1, 100),
    "n_out": (1, 1_000_000),
    "max_delay_steps": (1, 10_000),
    "kernel_count": (1, 1000),
    "tau": (1.0, 1e6),
    "v_threshold": (1e-6, 1e6),
    "surrogate_alpha": (1e-6, 1e6),
    "dropout": (0, 0.99),
    "epochs": (1, 1_000_000),
    "lr": (1e-12, 100),
    "lr_max": (1e-12, 100),
    "lr_position": (0, 1000),
    "weight_decay": (0, 100),
    "label_smoothing": (0, 0.99),
    "sigma_start": (1e-6, 10_000),
    "sigma_end": (1e-6, 10_000),
    "sigma_epochs": (1, 1_000_000),
    "seed": (0, 2**31 - 1),
    "threads": (1, 4096),
    "grad_clip": (1e-12, 1e12),
    "momentum": (0, 0.9999),
    "lr_end": (0, 100),
    "warmup_epochs": (0, 1_000_000),
    "step_lambda": (0, 1),
    "step_target": (-1000, 1000),
    "pretrain_epochs": (1, 1_000_000),
    "domain_weight": (0, 1000),
    "sliding_power": (1e-3, 1000),
    "sliding_end": (1e-3, 1),
    "backward_steps": (1, 1_000_000),
}


def _check(config: Config, **choices: tuple[str, ...]) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not _has_type(value, field.type):
            kind = getattr(field.type, "__name__", str(field.type))
            raise ConfigError(f"{field.name} is {value!r}: give a value of type {kind}")
        if field.name in choices and value not in choices[field.name]:
            hint = nearest(value, choices[field.name])
            raise ConfigError(f"unknown {field.name} {value!r}: {hint}")
        low, high = _RANGES.get(field.name, (0, 0))
        if field.name in _RANGES and value is not None and not low <= value <= high:
            raise ConfigError(f"{field.name} is {value}: choose a number from {low:g} to {high:g}")


def _has_type(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (isinstance(value, int) and isinstance(0.5, kind))  # type: ignore[arg-type]


_SHD = dict(
    dt_ms=10.0, units_per_channel=5, n_hidden=256, n_layers=2, max_delay_steps=25, tau=1.005,
    dropout=0.4, epochs=150, batch_size=256, lr=1e-3, lr_max=5e-3, lr_position=0.1,
    weight_decay=1e-5, sigma_end=0.23,
)  # fmt: skip
_SSC = _SHD | dict(n_hidden=512, n_layers=3, max_delay_steps=31, tau=1.5, dropout=0.25)
_DIGITS = _SHD | dict(dataset="spoken-digits", epochs=20, batch_size=64)
_SHORT = _SHD | dict(epochs=20, batch_size=64, n_steps=100, valid_fraction=0.0)
_BEST = _SHORT | dict(  # found on validation speakers only, see docs/log.md
    epochs=40, tau=2.0, dropout=0.25, loss="logit_sum", label_smoothing=0.1,
    aug_unit_shift=20.0, aug_unit_scale=0.1, aug_time_scale=0.15, aug_time_shift_ms=50.0,
    aug_drop=0.2,
)  # fmt: skip

_TRANSFER = dict(  # He et al., AAAI 2024 (arXiv 2303.13077)
    network="vgg", framing="time_bins", n_steps=10, frame_size=48, aug_crop=4, valid_fraction=0.0,
    delays="none", max_delay_steps=3, tau=2.0, v_threshold=0.5, decay_input=True,
    surrogate="piecewise_quadratic", surrogate_alpha=2.0, dropout=0.0, loss="tet",
    transfer="align", optimizer="adamw",
    lr=5e-3 * 120 / 1024, lr_max=None, warmup_epochs=5, weight_decay=0.01, epochs=300,
    batch_size=120,
)  # fmt: skip
_SMALL = _TRANSFER | dict(  # the same for a few hundred small recordings
    network="small", n_steps=6, frame_size=None, static_fit="place", aug_crop=2, lr=5e-3,
    warmup_epochs=2, epochs=60, batch_size=25, amp=True,
)  # fmt: skip
_SLTT = _TRANSFER | dict(  # Meng et al., ICCV 2023 (arXiv 2302.14311)
    network="vgg11", transfer="off", temporal_gradient="sltt", step_lambda=0.05, step_target=1.0,
    tau=1.1, v_threshold=1.0, decay_input=False, reset="soft", surrogate="triangle",
    surrogate_alpha=None, optimizer="sgd", momentum=0.9, lr_end=0.0, warmup_epochs=0,
    weight_decay=5e-4, epochs=300, amp=True, aug_flip=0.5,
)  # fmt: skip

PRESETS: dict[str, dict] = {
    "spoken-digits": _DIGITS | dict(n_in=140, n_out=20),
    "shd": _SHD | dict(dataset="shd", n_in=140, n_out=20),
    "ssc": _SSC | dict(dataset="ssc", n_in=140, n_out=35, epochs=60, batch_size=128),
    "gsc": _SSC | dict(dataset="gsc", n_in=140, n_out=35, epochs=100, batch_size=128),
    "short": _SHORT,
    "best": _BEST,
    "dvs": _SMALL | dict(
        dataset="dvs", static="digits", static_as="saccade", n_labelled=20, batch_size=20,
        test_fraction=0.3, epochs=300, compare=True,
    ),
    "nmnist": _SMALL | dict(dataset="nmnist"),
    "ncaltech101": _TRANSFER | dict(dataset="ncaltech101"),
    "cifar10dvs": _SLTT | dict(
        dataset="cifar10dvs", lr=0.05, backward_steps=2, batch_size=128, dropout=0.3
    ),
    "dvsgesture": _SLTT | dict(
        dataset="dvsgesture", lr=0.1, n_steps=20, backward_steps=4, batch_size=16, dropout=0.4,
        aug_flip=0.0,
    ),
    "events": _SMALL,
}  # fmt: skip

PRESET_NOTES: dict[str, str] = {
    "spoken-digits": "small synthetic data set inside the package: a first run within minutes",
    "shd": "Spiking Heidelberg Digits, published recipe (arXiv 2306.17670)",
    "ssc": "Spiking Speech Commands, published recipe (arXiv 2306.17670)",
    "gsc": "published recipe for Google Speech Commands; needs your own encoded file",
    "short": "SHD's recipe in 20 epochs, for a small file in SHD's layout",
    "best": "the recipe that does best on small files in SHD's layout",
    "dvs": "20 simulated recordings of scanned digits, taught by other digits: a first run",
    "nmnist": "N-MNIST with MNIST's images (--static FOLDER), small network",
    "ncaltech101": "N-Caltech101 with Caltech101's images, published recipe (arXiv 2303.13077)",
    "cifar10dvs": "CIFAR10-DVS step by step (SLTT-2), published recipe (arXiv 2302.14311)",
    "dvsgesture": "DVS128-Gesture step by step (SLTT-4), published recipe (arXiv 2302.14311)",
    "events": "small recipe for a folder of recordings, <class>/<recording>.bin",
}


def preset_settings(name: str) -> dict:
    """Copy of a preset's flat settings; ConfigError with the nearest name if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: {nearest(name, list(PRESETS))}")
    return dict(PRESETS[name])


def from_flat(settings: dict) -> tuple[DataConfig, ModelConfig, TrainConfig]:
    """Split flat settings into the three configs; ConfigError names an unknown field."""
    known = [f.name for kind in CONFIGS for f in dataclasses.fields(kind)]
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}: {nearest(name, known)}")
    parts = ({f.name for f in dataclasses.fields(kind)} & set(settings) for kind in CONFIGS)
    made = (kind(**{n: settings[n] for n in p}) for kind, p in zip(CONFIGS, parts, strict=True))
    return tuple(made)  # type: ignore[return-value]


def to_flat(*configs: Config) -> dict:
    """One flat dictionary of all fields, ready for JSON."""
    return {name: value for config in configs for name, value in dataclasses.asdict(config).items()}
