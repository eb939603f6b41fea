"""A folder of audio files -> one HDF5 file in SHD's layout, through the cochlea.

    folder/yes/*.wav  folder/no/*.flac     one folder per class, its name is the class, or
    file,label[,speaker][,split]           a CSV file with these columns, paths within the folder

Each clip's random numbers derive from (seed, path within the folder), so the result does not depend
on the number of processes. Finished clips lie in `OUT.work` until the last one is done: the same
command, given again after a crash, goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError
from ..cache import stamp
from ..coverage import WAY_OUT, none_left
from ..events import Events
from ..folders import one_split
from ..names import as_bytes, as_name
from ..processes import run_jobs
from ..seeds import file_seed
from ..tables import Listed, read_table
from .cochlea import LONGEST_S, VERSION, encode, membrane_response
from .shd import write_shd
from .wave_files import also, find_clips, read_wave, speaker_numbers


class Job(NamedTuple):
    """What a worker process needs to encode one clip; `done` is where the spikes go."""

    audio: Path
    done: Path
    seed: int
    response: Path | None = None
    """File of the membrane's response: computing it takes each process seconds and 100 MB."""


def encode_folder(
    folder: str | Path,
    out: str | Path,
    *,
    csv: str | Path | None = None,
    seed: int = 0,
    processes: int | None = None,
    progress: bool = True,
    skip_bad: bool = False,
    split: str | None = None,
) -> dict[str, str | int]:
    """Encodes every audio file under `folder`, or of `csv`, and writes `out` in SHD's layout.

    Classes are sorted by name. `processes`: None for all cores. `skip_bad`: leave out files that
    cannot be read, are silent or too short. `split`: only clips of that one; None: the file has one
    split, so a folder or list with several is refused. Returns {"file", "clips", "classes",
    "spikes", "resumed", "skipped"}: counts, `resumed` of clips found finished.
    Errors: DataError naming the files that are missing, unreadable, silent or already there.
    Source of the encoder: arXiv 1910.07407.
    """
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise DataError(f"{out} exists already: delete it or choose another name")
    clips = find_clips(folder) if csv is None else read_table(Path(csv), folder)
    classes = sorted({clip.label for clip in clips})
    split = one_split(split, sorted({clip.split for clip in clips}), csv or folder, "encode")
    clips = [clip for clip in clips if clip.split == split]
    work = Path(f"{out}.work")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {work} cannot be made ({error.strerror})") from error
    jobs = [_job(folder, clip.path, work, seed) for clip in clips]
    open_jobs = {job.done: job for job in jobs if not job.done.exists()}
    _run(list(open_jobs.values()), processes, progress)

    n = len(jobs)
    clips, jobs = _without_bad(clips, jobs, skip_bad)
    labels = [classes.index(clip.label) for clip in clips]
    write_shd(out, map(_finished, jobs), labels, classes, speaker_numbers(clips))
    spikes = sum(np.load(job.done, mmap_mode="r").shape[1] for job in jobs)
    resumed = sum(job.done not in open_jobs for job in jobs)
    shutil.rmtree(work)
    counts = {"clips": len(clips), "classes": len(classes), "spikes": spikes, "resumed": resumed}
    return {"file": str(out), **counts, "skipped": n - len(jobs)}


def encode_file(job: Job) -> None:
    """Reads one audio file and leaves its spikes, int64 (2, n) of t_us and unit, at `job.done`; of
    one that cannot be used why, in a file beside that ends in .bad."""
    try:
        wave, rate_hz, _ = read_wave(job.audio, 0, 1000 * LONGEST_S + 1000)
        events = _encoded(job, wave, rate_hz)
    except DataError as error:
        job.done.with_suffix(".bad").write_bytes(as_bytes(str(error)))
        return
    part = job.done.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as file:
        np.save(file, np.stack([events.t_us, events.x.astype(np.int64)]))
    os.replace(part, job.done)


def _encoded(job: Job, wave: np.ndarray, rate_hz: int) -> Events:
    """Spikes of a file's waveform. Errors: DataError naming the file."""
    try:
        events = encode(wave, rate_hz, job.seed, _response(job.response))
    except DataError as error:
        raise DataError(f"{job.audio}: {error}") from error
    if len(events) == 0:
        raise DataError(f"{job.audio} gives no spikes: it is too short, leave it out")
    return events


@lru_cache(maxsize=1)
def _response(path: Path | None) -> np.ndarray | None:
    return None if path is None else np.load(path, mmap_mode="r")


def _finished(job: Job) -> Events:
    t_us, unit = np.load(job.done)
    return Events(t_us, unit.astype(np.uint16))


def _job(folder: Path, path: str, work: Path, seed: int) -> Job:
    # what changed since the crash, file or cochlea, has another name here, and is encoded again
    version = repr((path, seed, VERSION, stamp(folder / path)))
    name = hashlib.sha256(version.encode()).hexdigest()[:32]
    return Job(folder / path, work / f"{name}.npy", file_seed(repr((seed, path))))


def _run(jobs: list[Job], processes: int | None, progress: bool) -> None:
    processes = min(processes or os.cpu_count() or 1, len(jobs))
    if processes > 1:
        response = jobs[0].done.with_name("membrane.npy")
        np.save(response, membrane_response())
        jobs = [job._replace(response=response) for job in jobs]
    run_jobs(encode_file, jobs, processes, progress, "clip")


def _without_bad(clips: list[Listed], jobs: list[Job], skip_bad: bool) -> tuple[list, list]:
    """Clips and jobs that have spikes. Errors: DataError naming the others, unless they are
    skipped, and if none is left."""
    bad = [job for job in jobs if not job.done.exists()]
    if not bad:
        return clips, jobs
    why = [as_name(job.done.with_suffix(".bad").read_bytes()) for job in bad]
    if len(bad) == len(jobs):
        raise DataError(none_left(len(bad), "files", why[0]))
    if not skip_bad:
        raise DataError(f"{why[0]}{also([str(job.audio) for job in bad[1:]])}{WAY_OUT}")
    good = [i for i, job in enumerate(jobs) if job.done.exists()]
    return [clips[i] for i in good], [jobs[i] for i in good]
