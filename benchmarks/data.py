"""Samples and events per second on one core: our loaders beside tonic's ToFrame with torch's
DataLoader, its DiskCachedDataset, and frames by SpikingJelly's way; same batches, alternating.

    python benchmarks/data.py [--only clips digits pictures] [--rounds 7] [--share 1]

Measured is all of a first epoch, from files to float32 batches [T, B, ...], with the frames that
are kept on disk, and an epoch after that. SpikingJelly's data sets cannot be imported without
torchvision: `spikingjelly` here is the numpy algorithm of its fixed number of frames, split by
number, with files of frames, uncompressed. Before anything is timed all batches must be equal.
Files are in the system's memory. Appends a JSON line per case to benchmarks/results/data.jsonl.

Legend: T time steps, B batch, P polarities, H rows, W columns.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, append
from synthetic import write_clips, write_ncaltech101, write_nmnist
from torch import Tensor
from torch.utils.data import DataLoader

from snndelay.data.audio.loader import loader as clip_loader
from snndelay.data.catalog import open_clips, open_recordings
from snndelay.data.vision.framing import Framing
from snndelay.data.vision.loader import loader as frame_loader
from snndelay.data.vision.loader import recording_frames
from snndelay.kernels.profile.measure import where
from snndelay.runs.machine import keep_freed_memory

CPU = torch.device("cpu")
T = 10  # frames of a recording
CLIP_T, CLIP_MS = 100, 10
RECORDING_MS = 300
SIZES = {"clips": (2000, 8000), "digits": (3000, 4200), "pictures": (240, None)}
SENSORS = {"digits": (34, 34), "pictures": (180, 240)}
BATCH = {"clips": 64, "digits": 64, "pictures": 16}
Epochs = Callable[[Path], tuple[Callable[[], Iterator[Tensor]], Callable[[], Iterator[Tensor]]]]


def our_clips(root: Path, cache: Path) -> tuple:
    """First epoch and later ones, each a function without arguments."""
    opened = []
    how = dict(dt_ms=CLIP_MS, units_per_channel=1, n_steps=CLIP_T, batch_size=BATCH["clips"])

    def first() -> Iterator[Tensor]:
        opened.append(open_clips("shd", str(root / "SHD")))
        return later()

    def later() -> Iterator[Tensor]:
        return (batch.x for batch in clip_loader(opened[0], **how))

    return first, later


def our_recordings(case: str, framing: str, root: Path, cache: Path) -> tuple:
    """The same of recordings."""
    made = []
    name = {"digits": "nmnist", "pictures": "ncaltech101"}[case]
    how = Framing(framing, T, dt_ms=RECORDING_MS / T)

    def first() -> Iterator[Tensor]:
        made.append(recording_frames(open_recordings(name, str(root)), how, cache))
        return later()

    def later() -> Iterator[Tensor]:
        return (batch.x for batch in frame_loader(made[0], None, batch_size=BATCH[case]))

    return first, later


def tonic_set(case: str, root: Path):
    """tonic's data set with ToFrame. What it takes for a sign of a download is not asked for."""
    from tonic import datasets
    from tonic.transforms import ToFrame

    if case == "clips":
        framing = dict(time_window=CLIP_MS * 1000, start_time=0, end_time=CLIP_T * CLIP_MS * 1000)
        kind, sensor = datasets.SHD, (700, 1, 1)
    else:
        H, W = SENSORS[case]
        framing = dict(time_window=RECORDING_MS * 1000 // T, start_time=0)
        framing |= dict(end_time=RECORDING_MS * 1000)
        sensor = (W, H, 2)
        kind = {"digits": datasets.NMNIST, "pictures": datasets.NCALTECH101}[case]
    here = type(kind.__name__, (kind,), {"_check_exists": lambda self: True})
    return here(str(root), transform=ToFrame(sensor, **framing))


def in_order(found) -> list[int]:
    """Places of tonic's samples in the order of ours: by path."""
    return (
        sorted(range(len(found)), key=lambda i: found.data[i])
        if found.data
        else [*range(len(found))]
    )


def batches(case: str, samples, order: list[int]) -> Iterator[Tensor]:
    """A DataLoader's batches, as float32 [T, B, ...]."""
    for x, _ in DataLoader(samples, BATCH[case], sampler=order):
        yield x.transpose(0, 1).float()


def tonic_plain(case: str, root: Path, cache: Path) -> tuple:
    """ToFrame in every epoch."""

    def epoch() -> Iterator[Tensor]:
        samples = tonic_set(case, root)
        return batches(case, samples, in_order(samples))

    return epoch, epoch


def tonic_cached(case: str, root: Path, cache: Path) -> tuple:
    """ToFrame in the first epoch, then files of frames."""
    from tonic import DiskCachedDataset

    def epoch() -> Iterator[Tensor]:
        samples = tonic_set(case, root)
        kept = DiskCachedDataset(samples, str(cache))
        return batches(case, kept, in_order(samples))

    return epoch, epoch


class ByNumber:
    """Frames by the algorithm of SpikingJelly: as many events in each, the rest in the last; kept
    in a file per sample, float64 as there."""

    def __init__(self, case: str, root: Path, cache: Path):
        found = tonic_set(case, root)
        self.files = [found.data[i] for i in in_order(found)]
        self.size, self.cache = SENSORS[case], cache

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        kept = self.cache / f"{i}.npz"
        if not kept.exists():
            np.savez(kept, frames=self.frames(self.files[i]))
        with np.load(kept) as file:
            return file["frames"].astype(np.float32), 0

    def frames(self, path: str) -> np.ndarray:
        """Frames of a file [T, P, H, W]."""
        raw = np.fromfile(path, np.uint8).astype(np.uint32)
        x, y, p = raw[::5], raw[1::5], raw[2::5] >> 7
        H, W = self.size
        made = np.zeros((T, 2, H * W))
        share = len(x) // T
        for t in range(T):
            here = slice(t * share, (t + 1) * share if t < T - 1 else None)
            for sign in (0, 1):
                mine = p[here] == sign
                place = (y[here][mine] * W + x[here][mine]).astype(np.int64)
                made[t, sign] = np.bincount(place, minlength=H * W)
        return made.reshape(T, 2, H, W)


def by_number(case: str, root: Path, cache: Path) -> tuple:
    """SpikingJelly's way."""

    def epoch() -> Iterator[Tensor]:
        samples = ByNumber(case, root, cache)
        return batches(case, samples, [*range(len(samples))])

    return epoch, epoch


def contenders(case: str, root: Path) -> dict[str, Callable[[Path], tuple]]:
    """Who takes part: name -> folder for frames -> (first epoch, later ones)."""
    found = {
        "tonic": lambda cache: tonic_plain(case, root, cache),
        "tonic, cached": lambda cache: tonic_cached(case, root, cache),
    }
    if case == "clips":
        return {"ours": lambda cache: our_clips(root, cache), **found}
    windows = {"ours": lambda cache: our_recordings(case, "time_window", root, cache)}
    number = {"ours, by number": lambda cache: our_recordings(case, "event_count", root, cache)}
    return windows | found | number | {"spikingjelly": lambda cache: by_number(case, root, cache)}


PEERS = {"tonic": "ours", "tonic, cached": "ours", "spikingjelly": "ours, by number"}


def check(case: str, entrants: dict, folder: Path) -> None:
    """Exits with a sentence unless every peer's batches are ours, in first and later epochs."""
    for peer, mine in PEERS.items():
        if peer not in entrants:
            continue
        with (
            tempfile.TemporaryDirectory(dir=folder) as one,
            tempfile.TemporaryDirectory(dir=folder) as two,
        ):
            pairs = zip(entrants[mine](Path(one)), entrants[peer](Path(two)), strict=True)
            for ours, other in pairs:
                for x, y in zip(ours(), other(), strict=True):
                    if wrong := int((x != y.reshape(x.shape)).sum()):
                        sys.exit(f"{case}: {wrong} of {x.numel()} counts of {peer} differ")


def timed(epoch: Callable[[], Iterator[Tensor]]) -> tuple[float, float]:
    """Seconds, and seconds of the processor, until its last batch is there."""
    start, cpu = time.perf_counter(), time.process_time()
    for _ in epoch():
        pass
    return time.perf_counter() - start, time.process_time() - cpu


def compare(case: str, root: Path, folder: Path, n: int, n_events: int, rounds: int) -> dict:
    """A result line."""
    entrants = contenders(case, root)
    check(case, entrants, folder)
    found: dict[str, list] = {who: [] for who in entrants}
    for _ in range(rounds):
        for who, epochs in entrants.items():
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                found[who].append([timed(epoch) for epoch in epochs(Path(cache))])
    line: dict = {"case": case, "samples": n, "events": n_events, "rounds": rounds}
    for k, clock in enumerate(("seconds", "cpu_seconds")):
        middle = {who: np.median(np.array(a)[:, :, k], 0).tolist() for who, a in found.items()}
        line[clock] = {w: dict(zip(("first", "later"), s, strict=True)) for w, s in middle.items()}
    line["over_ours"] = {
        peer: {when: s / line["seconds"][mine][when] for when, s in line["seconds"][peer].items()}
        for peer, mine in PEERS.items()
        if peer in entrants
    }
    return line | {"load": os.getloadavg()[0]}


def text(line: dict) -> str:
    """A result line as sentences."""
    said = [f"{line['case']}: {line['samples']} samples, {line['events']:,} events"]
    for who, seconds in line["seconds"].items():
        each = (
            f"{when} epoch {s:.2f} s, {line['samples'] / s:,.0f} samples/s, "
            f"{line['events'] / s / 1e6:.1f} M events/s"
            + (f" ({ratio[when]:.1f} x ours)" if (ratio := line["over_ours"].get(who)) else "")
            for when, s in seconds.items()
        )
        said.append(f"  {who}: {'; '.join(each)}")
    return "\n".join(said)


def write(case: str, root: Path, share: float) -> tuple[int, int]:
    """The files of a case, where tonic and we look for them: how many samples and events."""
    n, events = int(SIZES[case][0] * share), SIZES[case][1]
    if case == "clips":
        return n, write_clips(root / "SHD" / "shd_train.h5", n, events)
    if case == "digits":
        return n, write_nmnist(root / "NMNIST", n, events)
    return n, write_ncaltech101(root / "NCALTECH101", n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--only", nargs="+", choices=SIZES, default=[*SIZES], help="Run only these cases.")
    add("--rounds", type=int, default=7, help="Take medians of this many alternating rounds.")
    add("--share", type=float, default=1.0, help="Samples, of those that each case has.")
    add("--folder", type=Path, help="Write files here instead of the system's temporary folder.")
    add("--out", type=Path, default=RESULTS / "data.jsonl", help="Append JSON lines here.")
    o = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    keep_freed_memory()  # as train.py does
    for case in o.only:
        with tempfile.TemporaryDirectory(dir=o.folder) as folder:
            root = Path(folder) / "sets"
            line = compare(case, root, Path(folder), *write(case, root, o.share), o.rounds)
        line |= where(CPU)
        print(text(line), flush=True)
        append(line, o.out)


if __name__ == "__main__":
    main()
