"""What the samples of a part hold, found by reading one block of clips or one recording at a time:
events, times, counts per unit or pixel, what the frames lose, which cannot be used and why.

    figures = clip_figures("training", clips, Framing(10_000), most=1000)
    figures.bad, spread(figures.n_events), hot(figures.counts)

Memory does not grow with the events of a set. Legend: n samples of a part, m of them looked at, C
units, H rows and W columns.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ..errors import DataError, EventFormatError
from .audio import frames as audio_frames
from .audio.log_mel import LogMel
from .audio.sets import ClipSet
from .audio.shd import ShdFile
from .audio.survey import Survey, coverage, survey
from .audio.wave_files import read_wave
from .audio.waves import WaveSet
from .coverage import ENOUGH, Coverage
from .events import Clips, Events
from .vision.filters import NOISE_NAMES
from .vision.framing import Framing, framed
from .vision.sets import RecordingSet

SHOWN = 4  # samples that a picture has room for
LEVELS, LONGEST_MS = 256, 3_600_000  # of audio files: of their values; an hour is read at most
HOT, FEWEST = 5, 50  # times as many events as its neighbours, and how many, make a pixel hot


@dataclass
class Figures:
    """Of the part `name`: `labels` int64 (n,); `place` int64 (m,), the samples looked at, and of
    each its `n_events`, `n_taken` away by filters, `n_inside` the frames, and times of the first
    and the last event, int64 (m,), and `digest` of its events, uint64 (m,). `counts` int64 (C,) or
    (H, W): all events, and `n_on` those of polarity 1. `bad`: place -> why it cannot be used.
    `identity`: place -> name. `taken`: name of a filter that is on -> how many events it took away.
    `shown`: label -> (place, events) of the first good sample, of at most SHOWN classes. `held`:
    what a run would say of its events in the frames; None if no sample is good."""

    name: str
    labels: np.ndarray
    place: np.ndarray
    counts: np.ndarray
    identity: Callable[[int], str]
    n_on: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    shown: dict[int, tuple[int, Events]] = field(default_factory=dict)
    held: Coverage | None = None

    def __post_init__(self) -> None:
        m = len(self.place)
        self.n_events, self.n_taken, self.n_inside = np.zeros((3, m), np.int64)
        self.first_us, self.last_us = np.zeros((2, m), np.int64)
        self.digest = np.zeros(m, np.uint64)

    def keep(self, place: int, events: Callable[[], Events]) -> None:
        """Keeps a sample to be shown, if it is good and none of its class is there."""
        label = int(self.labels[place])
        if len(self.shown) < SHOWN and label not in self.shown and place not in self.bad:
            self.shown[label] = place, events()

    @property
    def duration_s(self) -> np.ndarray:
        """From the first to the last event of the samples with events, float64."""
        return (self.last_us - self.first_us)[self.n_events > 0] / 1e6

    @property
    def rate_s(self) -> np.ndarray:
        """Events per second of the samples that last, float64."""
        lasts = self.duration_s > 0
        return self.n_events[self.n_events > 0][lasts] / self.duration_s[lasts]


def chosen(n: int, most: int | None) -> np.ndarray:
    """The samples that are looked at, int64: all, or `most` of the n at even distances."""
    if most is None or n <= most:
        return np.arange(n)
    return np.arange(most) * n // most


def clip_figures(
    name: str,
    clips: ClipSet,
    how: audio_frames.Framing,
    most: int | None = None,
    step: Callable[[int], object] = lambda n: None,
) -> Figures:
    """Figures of the part `name`, for which `clips` are read with `skip_bad`. `most`: as `chosen`
    takes it. `step`: called with how many clips were looked at since the last call."""
    place = chosen(len(clips), most)
    found = Figures(name, clips.labels, place, np.zeros(clips.n_units, np.int64), clips.identity)
    whole = Survey(*np.zeros((len(Survey._fields) - 1, len(place)), np.int64), {})
    for at, block in _blocks(clips, place):
        seen = survey(clips.subset(place[at]), how, block)
        for of_all, of_block in zip(whole[:-1], seen[:-1], strict=True):
            of_all[at] = of_block
        whole.why.update({int(at[i]): why for i, why in seen.why.items()})
        found.bad |= {int(place[at[i]]): why for i, why in seen.why.items()}
        found.counts += np.bincount(block.x, minlength=clips.n_units)
        found.digest[at] = digests(block.t_us, block.offsets, block.x)
        for i, k in enumerate(at.tolist()):
            found.keep(int(place[k]), partial(block.events, i))
        step(len(at))
    found.n_events, found.n_inside = whole.n_events, whole.n_inside
    found.first_us, found.last_us = whole.first_us, whole.last_us
    if len(found.bad) < len(place):
        found.held = coverage(whole, how, name)
    return found


def _blocks(clips: ClipSet, place: np.ndarray) -> Iterator[tuple[np.ndarray, Clips]]:
    """(indices into `place`, their events): all in blocks, few one by one."""
    if isinstance(clips.source, ShdFile):  # which keeps no file in memory then
        source = copy(clips.source)
        source.in_memory_bytes = 0
        clips = replace(clips, source=source)
    if len(place) == len(clips):
        yield from clips.blocks()
        return
    index = place if clips.index is None else clips.index[place]
    for i, at in enumerate(index.tolist()):
        yield np.array([i]), clips.source.between(at, at + 1)


def recording_figures(
    name: str,
    recordings: RecordingSet,
    framing: Framing,
    most: int | None = None,
    step: Callable[[int], object] = lambda n: None,
) -> Figures:
    """The same of recordings. Errors: DataError if reading needs a package that is not there."""
    place, (H, W) = chosen(len(recordings), most), recordings.size
    counts = np.zeros((H, W), np.int64)
    found = Figures(name, recordings.labels, place, counts, recordings.called().__getitem__)
    for i, at in enumerate(place.tolist()):
        try:
            _look(found, i, events := recordings[at][0], framing)
            found.keep(at, lambda events=events: events)
        except (DataError, EventFormatError) as error:
            if isinstance(error.__cause__, ImportError):  # of all of them, and easily mended
                raise
            found.bad[at] = str(error)
        step(1)
    if len(found.bad) < len(place):
        good = ~np.isin(place, [*found.bad])
        left = found.n_events - found.n_taken
        inside, events = int(found.n_inside[good].sum()), int(left[good].sum())
        hint = "see --n-steps, --dt-ms and --framing" * (inside < ENOUGH * events)
        found.held = Coverage(name, inside, events, hint)
    return found


def _look(found: Figures, i: int, events: Events, framing: Framing) -> None:
    """Fills in what the i-th recording looked at says. Errors: DataError if it cannot be used."""
    H, W = found.counts.shape
    events.validate(W, H)
    found.n_events[i] = n = len(events)
    if n:
        found.first_us[i], found.last_us[i] = events.t_us.min(), events.t_us.max()
        x, y, p = (np.asarray(part, np.int64) for part in (events.x, events.y, events.p))
        found.counts += np.bincount(y * W + x, minlength=H * W).reshape(H, W)
        found.n_on += int(p.sum())
        found.digest[i] = digests(events.t_us, np.array([0, n]), x, y, p)[0]
    what = found.identity(int(found.place[i]))
    _, (found.n_inside[i], _, *taken) = framed(events, (H, W), framing, what)
    found.n_taken[i] = sum(taken)
    named = zip(NOISE_NAMES, taken, framing.filters.taking, strict=True)
    found.taken.update({name: k for name, k, is_on in named if is_on})


def wave_figures(
    name: str,
    waves: WaveSet,
    number: np.ndarray,
    how: LogMel,
    most: int | None = None,
    step: Callable[[int], object] = lambda n: None,
) -> Figures:
    """The same of audio files or windows of them: an event is a value of the waveform, and its unit
    one of LEVELS from -1 to 1. `waves`, `number`: as `waves.windows` makes them; `how`: their
    frames."""

    def identity(at: int) -> str:
        return waves.identity(at) + (f", window {number[at]}" if how.window_ms else "")

    most_ms = max(how.window_ms, how.length_ms) if how.window_ms else LONGEST_MS
    place = chosen(len(waves), most)
    found = Figures(name, waves.labels, place, np.zeros(LEVELS, np.int64), identity)
    for i, at in enumerate(place.tolist()):
        try:
            wave, rate, _ = read_wave(
                waves.paths[waves.index[at]], number[at] * how.step_ms, most_ms
            )
        except DataError as error:
            found.bad[at] = str(error)
            continue
        finally:
            step(1)
        t_us = np.rint(np.arange(len(wave)) * 1e6 / rate).astype(np.int64)
        level = np.clip((wave + 1) / 2 * LEVELS, 0, LEVELS - 1).astype(np.int64)
        found.n_events[i], found.last_us[i] = len(wave), t_us[-1]
        n = len(wave)
        found.n_inside[i] = min(n, round(how.length_ms * rate / 1000))
        found.counts += np.bincount(level, minlength=LEVELS)
        found.digest[i] = digests(t_us, np.array([0, n]), np.rint(wave * 2**23).astype(np.int64))[0]
        found.keep(at, partial(Events, t_us, level))
    if len(found.bad) < len(place):
        inside, values = int(found.n_inside.sum()), int(found.n_events.sum())
        found.held = Coverage(name, inside, values, "see --n-steps" * (inside < ENOUGH * values))
    return found


def digests(t_us: np.ndarray, offsets: np.ndarray, *parts: np.ndarray) -> np.ndarray:
    """A number for what each sample holds, whatever the order of its events: uint64 (samples,),
    the sum of a hash of each event (the finalizer of splitmix64, Steele et al. 2014). `t_us` and
    `parts` (x, or x, y and p) integer (events,); sample i owns offsets[i] to offsets[i + 1]."""
    mixed = np.zeros(len(t_us), np.uint64)
    for part in (t_us, *parts):
        mixed = _mix(
            mixed + np.asarray(part, np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        )
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])  # modulo 2**64
    return total[offsets[1:]] - total[offsets[:-1]]


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def same_events(parts: list[Figures]) -> list[list[tuple[int, int]]]:
    """Groups of samples that hold the same events: (index of the part, place) of each, of the
    samples looked at that have events."""
    where: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for k, part in enumerate(parts):
        columns = (part.place.tolist(), part.n_events.tolist(), part.digest.tolist())
        for place, n, digest in zip(*columns, strict=True):
            if n:
                where.setdefault((n, digest), []).append((k, place))
    return [group for group in where.values() if len(group) > 1]


def spread(values: np.ndarray) -> list[float] | None:
    """5th percentile, median and 95th percentile; None of nothing."""
    return np.percentile(values, (5, 50, 95)).tolist() if len(values) else None


def hot(counts: np.ndarray) -> np.ndarray:
    """Units or pixels that fire alone: more than the mean of all, HOT times as much as the median
    of their neighbours, two on either side or the eight around, and FEWEST events. bool, of the
    shape of `counts` (C,) or (H, W)."""
    near = 2 if counts.ndim == 1 else 1
    if min(counts.shape) <= near:  # there are no neighbours, or hardly any
        return np.zeros(counts.shape, bool)
    padded = np.pad(counts.astype(float), near, constant_values=np.nan)
    window = (2 * near + 1,) * counts.ndim
    around = np.lib.stride_tricks.sliding_window_view(padded, window).reshape(*counts.shape, -1)
    others = np.delete(around, around.shape[-1] // 2, axis=-1)
    alone = counts > HOT * np.nanmedian(others, axis=-1)
    return alone & (counts > counts.mean()) & (counts >= FEWEST)
