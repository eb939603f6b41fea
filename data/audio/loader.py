"""Clips -> batches [T, B, C]. Order and augmentation are pure functions of (seed, epoch, index).

So a batch is the same for any number of workers and on any device, and an epoch can be resumed at
any batch: the state is three integers. Nothing here draws from a global random generator.

There is one way to a batch: the events of all its clips, augmented and counted together. Only where
the events come from differs: from the set's source, clip by clip, or from the memory of a device.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ...errors import DataError, EventFormatError
from ..batches import ALL, Shard, epoch_batches, shards
from ..placing import moved, one_thread
from ..workers import batches_of, leave_signals
from .augment import augment, check_amounts, clip_draws, cut_partners, partners
from .flat import BadClip, Flat, Pieces, begins, check, compact, flat, pieces
from .frames import Framing, batch_frames, batch_steps, check_times, longest
from .held import Held
from .sets import ClipSet


class Batch(NamedTuple):
    """`x` float32 counts (T, B, C), `label_B` int64, `index_B` int64 (position in the set), all on
    one device. `target_BN` float32: the part of each label where clips have stretches of others;
    None: each is of its own label."""

    x: torch.Tensor
    label_B: torch.Tensor
    index_B: torch.Tensor
    target_BN: torch.Tensor | None = None


def loader(
    clips: ClipSet,
    *,
    batch_size: int,
    dt_ms: float,
    units_per_channel: int,
    framing: str = "grid",
    n_steps: int | None = None,
    workers: int = 0,
    amounts: Mapping[str, float] | None = None,
    mix: float = 0.0,
    cutmix: float = 0.0,
    seed: int = 0,
    epoch: int | None = None,
    start_batch: int = 0,
    shard: Shard = ALL,
    pin_memory: bool = False,
    timeout_s: float = 120,
    held: Held | None = None,
) -> "Loader":
    """Iterable of `Batch`, with len(). Clips shorter than the batch are zero at the end.

    `epoch`: clips in that epoch's order and augmented, by `amounts` of AUGMENTATIONS, after a mix
    with another clip of the class with probability `mix`, or else with a stretch of any other with
    probability `cutmix`; None: as stored. `dt_ms`, `framing`,
    `n_steps`, `units_per_channel`: as `frames` takes them. `start_batch`: batches of this epoch
    that are already done. `shard`: the part of each that is made. `held`: the clips in a device's
    memory: batches are made and lie there, the same bits, and without workers. `workers`:
    processes, 0 for none; `timeout_s`: longest wait for one.
    Errors: DataError and ConfigError for arguments that cannot work; while iterating DataError, one
    sentence that names clip and worker.
    """
    if not len(clips):
        raise DataError("the data set has no clips")
    check_amounts(amounts or {})
    how = Framing(round(dt_ms * 1000), units_per_channel, clips.n_units, n_steps, framing).check()
    parts = shards(epoch_batches(clips.labels, batch_size, seed, epoch)[start_batch:], shard)
    batches = _Batches(clips, held, how, parts, amounts or {}, (mix, cutmix), seed, epoch)
    return Loader(batches, 0 if held else workers, pin_memory, timeout_s)


class Loader:
    """What `loader` returns: iterate it as often as needed; batches are made anew each time."""

    def __init__(self, batches: "_Batches", workers: int, pin_memory: bool, timeout_s: float):
        self.batches = batches
        self.loader = DataLoader(
            batches,  # type: ignore[arg-type]
            batch_size=None,  # an item is a whole batch
            collate_fn=_as_it_is,
            num_workers=workers,
            pin_memory=pin_memory,
            timeout=timeout_s if workers else 0,
            worker_init_fn=leave_signals,
            generator=torch.Generator(),  # else every iteration takes a number from the global one
        )

    def __len__(self) -> int:
        return len(self.batches)

    def longest(self) -> int | None:
        """Steps of the longest batch, or None if only reading all clips would tell."""
        if self.batches.how.n_steps is not None or not len(self):
            return self.batches.how.n_steps
        steps = self.batches.steps()
        if steps is None:
            return None
        return int(steps[np.concatenate(self.batches.parts)].max())

    def __iter__(self) -> Iterator[Batch]:
        made = iter(self.loader) if not self.loader.num_workers else self._in_workers()
        for batch in made:
            if isinstance(batch, str):
                del made  # ends the workers before the error leaves
                raise DataError(batch)
            yield batch

    def _in_workers(self) -> Iterator[Batch | str]:
        self.batches.clips.before_fork()
        names = [f"clips {part.tolist()[:8]}..." for part in self.batches.parts]
        return batches_of(self.loader, names)


class _Batches:
    """Number of a batch -> the batch, or a sentence if one of its clips cannot be used: errors
    travel from a worker as values, because torch turns exceptions into tracebacks."""

    def __init__(
        self,
        clips: ClipSet,
        held: Held | None,
        how: Framing,
        parts: list[np.ndarray],
        amounts: Mapping[str, float],
        mix: tuple[float, float],  # probabilities of a blend and of a cut
        seed: int,
        epoch: int | None,
    ):
        self.clips, self.held, self.how, self.parts = clips, held, how, parts
        self.amounts, self.seed, self.epoch = amounts, seed, epoch
        self.labels = torch.from_numpy(clips.labels.astype(np.int64))
        self.u_KN: Tensor | None = None  # what the clips draw, on the device of their events
        self.partners: np.ndarray | None = None
        self.cut: np.ndarray | None = None  # which clips have a stretch of their partner
        self.others: Tensor | None = None  # its label; None: clips have no such stretches
        if epoch is not None and (any(mix) or any(amounts.values())):
            u_KN = clip_draws(seed, epoch, len(clips))
            self.u_KN = torch.from_numpy(u_KN)
            if any(mix):
                self.partners = partners(clips.labels, mix[0], u_KN)
            if mix[1]:
                other = cut_partners(mix[1], u_KN)
                own = partners(clips.labels, mix[0], u_KN)
                self.cut = (own < 0) & (other >= 0)
                self.partners = np.where(self.cut, other, own)
                place = torch.from_numpy(np.where(self.cut, other, np.arange(len(clips))))
                self.others = self.labels[place]
        if held:
            held.check(how)
            self.labels = held.label
            self.others = None if self.others is None else moved(self.others, held.device)
            self.u_KN = None if self.u_KN is None else moved(self.u_KN, held.device)
        # On a GPU a batch's number of steps must be known before its events are augmented: to ask
        # the device for it would be a wait in every step. So where augmentation changes it, one
        # pass over the epoch's clips finds all of them, and the host waits once per epoch.
        self.ahead = held is not None and held.device.type == "cuda"
        self._steps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> Batch | str:
        if not 0 <= k < len(self):
            raise IndexError(k)
        try:
            with one_thread(self.labels.device):
                return self.batch(self.parts[k])
        except (DataError, EventFormatError) as error:
            return f"{error}{_in_worker()}"

    def batch(self, index_B: np.ndarray) -> Batch:
        """The batch of the clips `index_B`."""
        events = self.events(index_B)
        steps = self.steps() if self.how.n_steps is None else None
        try:
            T = None if steps is None else longest(steps[index_B])
            x_TBC = batch_frames(events, self.how, T)
        except BadClip as error:
            at = self.clips.identity(int(index_B[error.piece]))
            raise DataError(f"{at}: {error.why}") from None
        label_B, target_BN = self.labels.index_select(0, events.index), None
        if self.others is not None:
            other_B = self.others.index_select(0, events.index)
            target_BN = _target(label_B, other_B, events.share, len(self.clips.classes))
        return Batch(x_TBC, label_B, events.index, target_BN)

    def events(self, index_B: np.ndarray) -> Flat:
        """The events of the clips `index_B`, augmented."""
        mixed = (part if part is None else part[index_B] for part in (self.partners, self.cut))
        made = pieces(index_B, *mixed)
        events = self.held.flat(made) if self.held else _read(self.clips, made, self.how)
        if self.u_KN is None:
            return events
        assert self.epoch is not None
        u_KB = self.u_KN.index_select(1, events.index)
        return augment(events, self.amounts, u_KB, self.clips.n_units, self.seed, self.epoch)

    def steps(self) -> np.ndarray | None:
        """Number of steps of every clip that these batches hold, int64 by its place in the set;
        None where a batch's own events are to tell."""
        if self.held is None:
            return None
        if self.u_KN is None:
            return self.held.steps(self.how)
        if self._steps is None and self.ahead:
            found = [batch_steps(self.events(part), self.how) for part in self.parts]
            self._steps = np.zeros(len(self.clips), np.int64)
            self._steps[np.concatenate(self.parts)] = torch.cat(found).numpy(force=True)
        return self._steps


def _read(clips: ClipSet, made: Pieces, how: Framing) -> Flat:
    """The events of a batch from the set's source. DataError, one sentence, if a clip is bad."""
    read, names = [], []
    for i in made.place_S.tolist():
        try:
            events, _, name = clips[i]
        except EventFormatError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"clip {i} cannot be read: {what}") from error
        read.append(events)
        names.append(name)
    t_us, x = (np.concatenate([getattr(e, part) for e in read]) for part in ("t_us", "x"))
    size_S = np.array([len(e) for e in read])
    try:
        check(t_us, x, size_S, clips.n_units)
        begin_S = begins(size_S)
        check_times(how, *(f.reduceat(t_us, begin_S) for f in (np.minimum, np.maximum)))
    except BadClip as error:
        raise DataError(f"{names[error.piece]}: {error.why}") from None
    sum_S = np.zeros_like(size_S)
    if made.second_S.any():  # only to mix
        sum_S = np.add.reduceat(t_us, begins(size_S), dtype=np.int64)
    return flat(*compact(t_us, x, clips.n_units), made, size_S, sum_S)


def _target(label_B: Tensor, other_B: Tensor, share_B: Tensor | None, N: int) -> Tensor:
    """The part of each of N labels in each clip, float32 (B, N)."""
    class_N = torch.arange(N, device=label_B.device)
    own_BN, other_BN = ((part[:, None] == class_N).double() for part in (label_B, other_B))
    if share_B is None:
        return own_BN.float()
    return (own_BN * (1 - share_B)[:, None] + other_BN * share_B[:, None]).float()


def _as_it_is(batch: Batch | str) -> Batch | str:
    return batch


def _in_worker() -> str:
    info = get_worker_info()
    return "" if info is None else f" (loader worker {info.id})"
