"""The settings of a run: frozen dataclasses, one component per subject, one line per setting.

The kinds share some components and have others of their own; a run has all components of its kind.
Names are unique within a kind, so one flat namespace serves the command line
(`--max-delay-steps 25`), YAML files and a run's config.json. A setting that several kinds have with
another meaning has a line in each. What a kind cannot choose is a ClassVar of its component.
"""
# ruff: noqa: E501 (a setting stands on one line, however long, so that the file reads as a table)
# ruff: noqa: RUF009 (components are frozen, those of another file too)
# fmt: off

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..conv_net import CONV_KINDS
from ..data.audio.frames import FRAMINGS
from ..data.audio.shd import UNITS_US
from ..data.audio.split import PROTOCOLS
from ..data.batches import SAMPLINGS
from ..data.coverage import ZEROS
from ..data.placing import PLACES
from ..data.vision.frames import FRAMINGS as FRAMINGS_OF_EVENTS
from ..data.vision.grids import SURFACES, VOXELS
from ..data.vision.images import CHANNELS, FITS
from ..data.vision.loader import STATIC_FORMS
from ..data.vision.resize import RESIZES
from ..data.vision.sliding import SCHEDULES
from ..data.vision.split import SPLITS
from ..delay_net import PADDINGS, READOUTS
from ..delays import DELAY_KINDS, DELAYS
from ..delays.recurrent import RECURRENT_KINDS, RECURRENT_VERSIONS
from ..errors import ConfigError, alternatives
from ..gradients import GRADIENTS
from ..kernels import BACKENDS, NEURONS, SURROGATES
from ..kernels.delay import VERSIONS
from ..kernels.precision import PARTS
from ..losses import LOSSES
from ..networks import networks_of
from ..timescales import SPREADS, check_spread
from ..transfer import COEFFICIENTS, TARGETS
from ..weights import WEIGHT_BITS, WEIGHTS
from .fields import MANY, Component, setting
from .input_settings import AudioAugmentation, EventFilters, VisionAugmentation
from .machine import DEVICES, GRAPHS
from .memory_settings import Curriculum, MemoryData, MemoryNetwork, MemoryNeurons, MemoryTraining

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "adam": torch.optim.Adam}
SAMPLE = {"audio": "clip", "vision": "recording", "memory": "trial"}  # what its data are made of
CLASSES = {"audio": "classes", "vision": "classes", "memory": "values of N"}
FROM_DATA = ("n_in", "n_out", "size")  # presets know them for their data set, `build_model` needs them


@dataclass(frozen=True)
class Data(Component):
    """The data, and what is held out."""

    dataset: str = setting("spoken-digits", "a name (see --list), a file of clips (.h5, .npz, .csv), or a folder of recordings, audio files or spikes in text")
    root: str = setting("~/.cache/snndelay", "folder that holds the named data sets")
    download: bool = setting(False, "fetch a named data set that is missing from root")
    protocol: str = setting("clean", "clean: tested once, at the end; validation: never tested, to choose settings by the validation samples; best-on-test: also tests every epoch and names the best-on-test", choices=PROTOCOLS)
    valid_fraction: float = setting(0.1, "part of the training samples held out to validate; by speaker if known; 0: none", 0, 0.9)
    skip_bad: bool = setting(False, "leave out samples that cannot be used (damaged, without events, none of them in the frames) and say how many, instead of an error")
    batch_size: int = setting(128, "samples per training step", 1, MANY)


@dataclass(frozen=True)
class AudioFrames(Component):
    """How the events of clips become frames."""

    test_file: str | None = setting(None, "file or folder with the test clips; needed when dataset has none of its own")
    framing: str = setting("grid", "grid: fixed time steps; event: each frame starts at its first event; event-published: the same in float16 milliseconds, as the original delay runs", choices=FRAMINGS)
    dt_ms: float = setting(10.0, "length of one frame in milliseconds", 0.01, 10_000)
    n_steps: int | None = setting(None, "frames per clip, cut or zero-padded; null: as the longest clip of the batch", 1, MANY)
    units_per_channel: int = setting(5, "neighbouring units summed into one input channel (5: 700 units -> 140 channels); audio files have n_mels instead", 1, 100_000)
    n_units: int | None = setting(None, "units of the clips in files; null: 700, as SHD has", 1, 65_536)
    n_mels: int = setting(140, "mel bands of audio files, in dB, each an input channel", 1, 4096)
    label_key: str = setting("labels", "which data of a file are the classes, extra/speaker say; of a CSV file its column; or a .npy or .csv beside the file, * for its name, *_labels.csv say")
    window_ms: float | None = setting(None, "cut clips into windows of so many milliseconds, after the split; null: whole clips, and of audio files their first second", 1, 1e7)
    window_overlap: float = setting(0.0, "part of a window that the next one has too", 0, 0.9, needs="window_ms=number")
    cache: bool = setting(True, "keep the frames of audio files on disk, in the folder frames of root")
    workers: int = setting(0, "processes that prepare batches; 0: the main process", 0, 256)
    time_unit: str = setting("s", "unit of the times in files of clips", choices=tuple(UNITS_US))
    time_zero: str = setting("file", "where a clip's time 0 is; file: where its file has it; first-event: at its first event", choices=ZEROS, needs="framing=grid|event-published")
    spikes_per_unit: int | None = setting(None, "give every unit of every clip so many spikes, so that only timing is left; null: as they are", 1, 100_000)
    reverse: bool = setting(False, "play every clip backwards; to test timing, see snndelay evaluate --reverse")


@dataclass(frozen=True)
class VisionFrames(Component):
    """Which recordings train, and how their events become frames."""

    framing: str = setting("time_bins", "time_bins: n_steps equal parts; event_count: equal numbers of events; time_window: dt_ms each; time_surface: what decays with surface_tau_ms at the end of every dt_ms; voxel_grid: events shared by n_steps points in time", choices=FRAMINGS_OF_EVENTS)
    n_steps: int = setting(10, "frames per recording", 1, MANY)
    dt_ms: float = setting(10.0, "length of one frame in milliseconds", 0.01, 10_000, needs="framing=time_window|time_surface")
    stride_ms: float | None = setting(None, "time from the start of one frame to that of the next, in milliseconds; null: dt_ms, so that none overlap", 0.01, 10_000, needs="framing=time_window")
    surface: str = setting("last", "of a pixel's events, last: the last one decays (HOTS); sum: all do, added up (HATS)", choices=SURFACES, needs="framing=time_surface")
    surface_tau_ms: float = setting(50.0, "time in which a time surface decays to 1/e, in milliseconds", 0.001, 1e6, needs="framing=time_surface")
    voxel: str = setting("per-polarity", "per-polarity: a grid of each; signed: on minus off events, as published, what is above 0 and what is below in two channels", choices=VOXELS, needs="framing=voxel_grid")
    time_unit: str | None = setting(None, "unit of the times in recordings of .npy, .npz and text, whose files do not say it; null: us, and s in text where one has a fraction", choices=tuple(UNITS_US))
    time_zero: str = setting("file", "where a recording's time windows begin; file: where its file has time 0; first-event: at its first event", choices=ZEROS, needs="framing=time_window|time_surface")
    sensor: tuple[int, int] | None = setting(None, "height,width in pixels of the sensor that made the recordings, with which their headers and events must agree; null: as headers say, else as far as events reach", 1, 2048)
    events_per_step: int | None = setting(None, "events in each frame; null: equal parts", 1, 1_000_000_000, needs="framing=event_count")
    frame_size: int | None = setting(None, "height and width, one number for both, to which frames are resized; null: those of the sensor", 4, 4096)
    frame_resize: str = setting("aligned", "aligned: corners on corners, the nearest pixels only, as published with transfer; antialias: by area, as Pillow does", choices=RESIZES, needs="frame_size=number")
    cache: bool = setting(True, "keep the frames on disk, in the folder frames of root")
    split: str = setting("by-image", "by-image (no image of a test recording in training) or file-order (90/10 in file order, which can leak)", choices=SPLITS)
    sampling: str = setting("uniform", "uniform: an epoch shows every recording once; class-balanced: as many draws with replacement, all classes alike", choices=SAMPLINGS)
    drop_last: bool = setting(False, "leave out an epoch's last batch if it is not full, unless it is the only one")
    n_labelled: int | None = setting(None, "recordings to train on; as many of each class; null: all but the test part", 1, 1_000_000_000)
    test_fraction: float | None = setting(None, "part of the recordings for testing; null: all others with n_labelled, else the official test part or 0.1", 0.001, 0.9)


@dataclass(frozen=True)
class AudioNetwork(Component):
    """Hidden layers of delays and spiking neurons, and a readout."""

    network: str = setting("delay", "layout", choices=lambda: networks_of("audio"))
    n_in: int | None = setting(None, "input channels; null: from the data", 1, MANY)
    n_hidden: int | tuple[int, ...] = setting(256, "neurons per hidden layer; 256,128: one number for each", 1, MANY)
    n_layers: int = setting(2, "hidden layers; follows from n_hidden where that has several numbers", 1, 100)
    n_out: int | None = setting(None, "classes; null: from the data", 1, MANY)
    delay_kind: str = setting("synaptic", "synaptic: each synapse has its delay; axonal: one per input; dendritic: one per neuron; common: one per layer; hybrid: learned axonal and fixed synaptic", choices=DELAY_KINDS, needs="delays=learned|fixed|frozen")
    kernel_count: int = setting(1, "delayed elements per synapse, each with its own weight and position", 1, 1000, needs="delay_kind=synaptic")
    fan_in: int | None = setting(None, "random inputs that each hidden neuron hears; null: all", 1, MANY)
    weight_bits: str | None = setting(None, "ternary: weights -a, 0 or a; 8: of 8 bits; null: float32", choices=WEIGHT_BITS)
    weights: str = setting("learned", "frozen: as they are drawn, so that of the synapses only delays are trained", choices=WEIGHTS)
    padding: str = setting("right", "right: every layer adds (K-1)//2 steps on the right; causal: same length", choices=PADDINGS)
    readout: str = setting("leaky", "leaky: potentials of integrators, as published; spikes: of neurons as the hidden ones", choices=READOUTS)
    dropout: float = setting(0.4, "part of the hidden neurons silenced in training; see dropout_mask", 0, 0.99)
    dropout_mask: str = setting("held", "held: one mask per clip for all steps; step: a new mask at every step", choices=("held", "step"))
    batchnorm: bool = setting(True, "normalise every neuron's input over time and batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.n_hidden, tuple):
            object.__setattr__(self, "n_layers", len(self.n_hidden))


@dataclass(frozen=True)
class VisionNetwork(Component):
    """Convolutions, spiking neurons, and a readout of every step."""

    network: str = setting("small", "layout", choices=lambda: networks_of("vision"))
    delay_kind: str = setting("axonal", "axonal: one delay per input channel of a layer; synaptic: one for each element of its kernels", choices=CONV_KINDS, needs="delays=learned|fixed|frozen")
    size: tuple[int, int] | None = setting(None, "height,width of the frames in pixels; null: from the data", 1, 100_000)
    n_out: int | None = setting(None, "classes; null: from the data", 1, MANY)
    dropout: float = setting(0.0, "part of the neurons silenced in training, the same for all steps", 0, 0.99)


@dataclass(frozen=True)
class Delays(Component):
    """Delays of every layer; delay_kind says of what."""

    delays: str = setting("learned", "learned; fixed: random whole steps, one tap, the published control; frozen: random, taps narrow as if learned; none: K = 1", choices=DELAYS)
    max_delay_steps: int = setting(25, "taps K of every delay, which lies in 0 .. K-1 steps", 1, 10_000, needs="delays=learned|fixed|frozen")
    version: str = setting("gauss", "shape of a delay's tap weights in training; triangle: of recurrent layers alone, as published with them", choices=RECURRENT_VERSIONS, needs="delays=learned|frozen")


@dataclass(frozen=True)
class MemoryDelays(Delays):
    """Delays among the neurons; delay_kind says of what."""

    delays: str = setting("none", "learned, fixed, frozen (as learned, but not trained) or none; accuracy is that with whole delays, so that an N is solved once sigma_epochs are over", choices=DELAYS, needs="network=spiking")


@dataclass(frozen=True)
class Learning(Component):
    """How the taps of the delays narrow while they train."""

    sigma_start: float | None = setting(None, "width parameter of the taps at the start, in steps; null: K // 2", 1e-6, 10_000, needs="version=gauss|max|triangle")
    sigma_end: float = setting(0.23, "width parameter of the taps at the end (0.23: effective width 0.5 steps)", 1e-6, 10_000, needs="version=gauss|max|triangle")
    sigma_epochs: int | None = setting(None, "epochs until the width reaches sigma_end; null: epochs // 4", 1, MANY, needs="version=gauss|max|triangle")
    round_fraction: float = setting(0.0, "part of the epochs, the last ones, in which delays are whole steps already, as in evaluation, and the weights learn on", 0, 0.99, needs="delays=learned|frozen")


@dataclass(frozen=True)
class Neurons(Component):
    """The hidden neurons."""

    neuron: str = setting("lif", "hidden neuron", choices=NEURONS)
    tau: float = setting(1.005, "membrane time constant in steps", 1.0, 1e6)
    learn_tau: bool = setting(False, "learn the time constants, one per neuron (audio) or channel (vision), tau_syn too; plif and adlif always do", needs="neuron=lif|cuba")
    tau_init: str = setting("same", "how the time constants of the neurons start, learned or not; same: all at tau; log-uniform: drawn between tau and tau_max; gamma: drawn with mean tau, cut at tau_max", choices=("same", *SPREADS), needs="neuron=lif|plif|cuba")
    tau_max: float = setting(50.0, "longest time constant at the start, in steps; learning may go beyond", 1.0, 1e6, needs="tau_init=log-uniform|gamma")
    v_threshold: float = setting(1.0, "membrane potential at which a neuron spikes", 1e-6, 1e6)
    reset: str = setting("hard", "after a spike: hard (to v_reset), soft (minus the threshold) or none", choices=("hard", "soft", "none"))
    v_reset: float = setting(0.0, "membrane potential after a spike, and at rest", -1e6, 1e6, needs="reset=hard")
    refractory: int = setting(0, "steps after a spike in which a neuron stays at its reset; plain PyTorch runs it, slowly", 0, MANY, needs="reset=hard|soft")
    decay_input: bool = setting(False, "divide the input by tau")
    detach_reset: bool = setting(True, "no gradient through the reset")
    surrogate: str = setting("atan", "derivative of the spike", choices=SURROGATES)
    surrogate_alpha: float | None = setting(None, "sharpness of the surrogate; null: the usual one of its shape (5 for atan)", 1e-6, 1e6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_init != "same":
            check_spread(self.tau, self.tau_max, self.tau_init)
        if self.neuron == "plif" and self.tau <= 1:
            raise ConfigError(f"tau is {self.tau}: a plif neuron needs tau above 1")
        if self.reset == "hard" and self.v_reset >= self.v_threshold:
            raise ConfigError(f"v_reset is {self.v_reset}: choose less than v_threshold, {self.v_threshold}")


@dataclass(frozen=True)
class AudioRecipe(Component):
    """Loss and learning rates of the published recipe: Adam, weights and positions apart."""

    lr: float = setting(1e-3, "constant learning rate of the weights, in place of lr_max", 1e-12, 100, needs="lr_max=null")
    lr_max: float | None = setting(5e-3, "peak learning rate of weights; the one-cycle schedule starts at 1/25 of it", 1e-12, 100)
    lr_position: float = setting(0.1, "learning rate of the delay positions at the start of its cosine to 0", 0, 1000, needs="delays=learned")
    loss: str = setting("softmax_sum", "softmax_sum: as published; logit_sum and logit_max: of the mean or largest logits; tet: the mean of a loss at every step; rate_cross_entropy and spike_count_mse: with readout spikes", choices=LOSSES)
    label_smoothing: float = setting(0.0, "part of the target spread over all classes", 0, 0.99)


@dataclass(frozen=True)
class VisionRecipe(Component):
    """Optimizer, learning rates, and the loss of every step (tet with a squared error)."""

    optimizer: str = setting("adamw", "for weights and positions alike", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "its momentum", 0, 0.9999, needs="optimizer=sgd")
    lr: float = setting(1e-3, "learning rate after the warm-up", 1e-12, 100)
    lr_end: float = setting(1e-5, "learning rate at the end of the cosine schedule", 0, 100)
    lr_position: float = setting(0.1, "learning rate of the delay positions, by the schedule of lr", 0, 1000, needs="delays=learned")
    warmup_epochs: int = setting(0, "epochs in which the learning rate rises linearly from 1e-6 to lr; the cosine counts from the first epoch all the same", 0, MANY)
    cooldown_epochs: int = setting(0, "last ones of the epochs, at lr_end after the end of the cosine and of the sliding", 0, MANY)
    weight_decay_on: str = setting("weights", "weights: synaptic weights; all: norms, biases and constants of neurons too", choices=("weights", "all"))
    step_lambda: float = setting(1e-3, "part of the squared error of the outputs in the loss", 0, 1)
    step_target: float | str = setting(0.5, "what the squared error pulls the outputs to: one-hot, or one number for all classes", -1000, 1000, choices=TARGETS)


@dataclass(frozen=True)
class Transfer(Component):
    """What static images teach."""

    transfer: str = setting("off", "align, finetune or off; align: learn from static images too, as published; finetune: from images first, then from events", choices=("align", "finetune", "off"))
    static: str | None = setting(None, "images of the same classes to learn from; a folder of class folders, an .npz or digits", needs="transfer=align|finetune")
    static_channel: str = setting("v", "grey value of a colour image; v: V of HSV; last: the last colour channel", choices=CHANNELS, needs="transfer=align|finetune")
    static_as: str = setting("image", "image: shown at every step; saccade: as a simulated recording of it", choices=STATIC_FORMS, needs="transfer=align|finetune")
    static_fit: str = setting("resize", "resize: an image fills the frame; place: it covers 28/34 of it, as in the recordings of N-MNIST", choices=FITS, needs="static_as=image")
    pretrain_epochs: int | None = setting(None, "epochs with images before those with events; null: half of all", 1, MANY, needs="transfer=finetune")
    coefficient: float | str = setting("learned", "weight of the alignment per step: learned, off (1), or a number c", 0, 1, choices=COEFFICIENTS, needs="transfer=align")
    domain_weight: float = setting(0.5, "weight of the alignment loss in the total", 0, 1000, needs="transfer=align")
    sliding: str = setting("power", "how the probability rises with which an image gives way to its recording; step with domain_weight 0 is the published run without sliding", choices=SCHEDULES, needs="transfer=align")
    sliding_power: float = setting(3.0, "exponent of the rise", 1e-3, 1000, needs="sliding=power")
    sliding_end: float = setting(1.0, "part of the training after which every image is replaced", 1e-3, 1, needs="sliding=power|linear|cosine|step")
    compare: bool = setting(False, "train a second time on events alone and show both", needs="transfer=align|finetune")


@dataclass(frozen=True)
class Training(Component):
    """Length of the training, and how gradients are made."""

    epochs: int = setting(150, "passes over the training samples", 1, MANY)
    weight_decay: float = setting(1e-5, "on synaptic weights", 0, 100)
    temporal_gradient: str = setting("bptt", "bptt, detach_state or sltt; bptt: through time; detach_state: through delays, but not membranes; sltt: step by step, in memory that does not grow with the steps", choices=GRADIENTS)
    backward_steps: int | None = setting(None, "random steps per batch that carry a gradient (SLTT-K); null: all", 1, MANY, needs="temporal_gradient=sltt")
    recompute: bool = setting(False, "keep packed spikes only and compute layers again in the backward pass; exact; with sltt within each step, which saves less")
    amp: bool = setting(False, "products in bfloat16, neurons in float32")
    grad_clip: float | None = setting(None, "largest norm of the gradient; null: no limit", 1e-12, 1e12)
    average_fraction: float = setting(0.0, "part of the epochs, the last ones, of whose weights the run's network is the mean (SWA, arXiv 1803.05407)", 0, 0.99)
    seed: int = setting(0, "seed of everything random; weights, split, order, augmentation and dropout", 0, 2**31 - 1)


@dataclass(frozen=True)
class Machine(Component):
    """Where it runs, and where the results go."""

    run: str | None = setting(None, "name of the run's folder; null: dataset-preset-seed, with a number if taken")
    runs: str = setting("runs", "folder that holds the runs")
    checkpoint_every: str = setting("10m", "time between two checkpoints within an epoch, in minutes, as 10m, or in steps, as 500; every epoch ends with one")
    device: str = setting("auto", "auto, cpu or cuda", choices=DEVICES)
    data_on: str = setting("auto", "where the samples lie; device: in its memory, where batches are made without workers; host: in files or main memory; auto: on a GPU where they fit", choices=PLACES)
    graph: str = setting("auto", "training steps and evaluation as CUDA graphs, one for each shape of a batch; auto: where there is CUDA", choices=GRAPHS)
    threads: int | None = setting(None, "CPU threads; null: as torch chooses", 1, 4096)
    backend: str = setting("auto", "which implementation of the kernels runs", choices=BACKENDS)
    precision: str | None = setting(None, "of float32 products on a GPU; highest: float32; default: convolutions in TF32, delays to 2^-16; fast: bfloat16; null: as torch allows", choices=PARTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is not None and (self.run in ("", ".", "..") or {*self.run} & {*"/\\\0"}):
            raise ConfigError(f"run is {self.run!r}: give a name, and the folder that holds it with --runs")


# fmt: on


def _check_delays(network: AudioNetwork | VisionNetwork, delays: Delays) -> None:
    """ConfigError for delays that the network has not."""
    if network.network != "recurrent":
        if delays.version not in VERSIONS:
            raise ConfigError(
                f"version must be one of {', '.join(VERSIONS)}, not {delays.version!r}, which is of --network recurrent"
            )
    elif network.delay_kind not in RECURRENT_KINDS:
        raise ConfigError(
            f"recurrent delays are {alternatives(RECURRENT_KINDS)}, not {network.delay_kind!r}: change --delay-kind"
        )
    elif isinstance(network, AudioNetwork) and network.kernel_count != 1:
        raise ConfigError(
            f"kernel_count is {network.kernel_count}, and recurrent synapses have one element: leave it out"
        )


@dataclass(frozen=True)
class AudioSettings:
    """All settings of a run on clips. Raises ConfigError for settings that contradict each other."""

    kind: ClassVar[str] = "audio"
    data: Data = Data()
    frames: AudioFrames = AudioFrames()
    augment: AudioAugmentation = AudioAugmentation()
    network: AudioNetwork = AudioNetwork()
    delays: Delays = Delays()
    learning: Learning = Learning()
    neurons: Neurons = Neurons()
    recipe: AudioRecipe = AudioRecipe()
    training: Training = Training()
    machine: Machine = Machine()

    def __post_init__(self) -> None:
        _check_delays(self.network, self.delays)
        loss, wanted = self.recipe.loss, []
        if LOSSES[loss].of_spikes and self.network.readout != "spikes":
            raise ConfigError(f"loss {loss} is of output spikes: add --readout spikes")
        if self.training.temporal_gradient == "sltt":
            wanted += ["--loss tet"] if loss != "tet" else []
            wanted += ["--padding causal"] if self.network.padding == "right" else []
        if wanted:
            raise ConfigError(f"sltt goes step by step: add {' '.join(wanted)}")


@dataclass(frozen=True)
class VisionSettings:
    """All settings of a run on recordings. Raises ConfigError as AudioSettings."""

    kind: ClassVar[str] = "vision"
    data: Data = Data()
    frames: VisionFrames = VisionFrames()
    filters: EventFilters = EventFilters()
    augment: VisionAugmentation = VisionAugmentation()
    network: VisionNetwork = VisionNetwork()
    delays: Delays = Delays()
    learning: Learning = Learning()
    neurons: Neurons = Neurons()
    recipe: VisionRecipe = VisionRecipe()
    transfer: Transfer = Transfer()
    training: Training = Training()
    machine: Machine = Machine()

    def __post_init__(self) -> None:
        _check_delays(self.network, self.delays)


@dataclass(frozen=True)
class MemorySettings:
    """All settings of a run on a memory task. Raises ConfigError for what its networks and trials
    cannot do."""

    kind: ClassVar[str] = "memory"
    data: MemoryData = MemoryData()
    curriculum: Curriculum = Curriculum()
    network: MemoryNetwork = MemoryNetwork()
    delays: MemoryDelays = MemoryDelays()
    learning: Learning = Learning()
    neurons: MemoryNeurons = MemoryNeurons()
    training: MemoryTraining = MemoryTraining()
    machine: Machine = Machine()

    def __post_init__(self) -> None:
        if self.machine.data_on == "device":
            raise ConfigError("data_on is device, but trials are drawn on the host: leave it out")
        if self.network.network == "spiking":
            return
        if (delays := self.delays.delays) != "none":
            raise ConfigError(
                f"delays are {delays}, and rate neurons have none: add --network spiking"
            )
        if (backend := self.machine.backend) not in ("auto", "reference"):
            raise ConfigError(f"rate neurons have no backend {backend}: leave it out")


Settings = AudioSettings | VisionSettings | MemorySettings
KINDS: dict[str, type[Settings]] = {
    "audio": AudioSettings,
    "vision": VisionSettings,
    "memory": MemorySettings,
}
