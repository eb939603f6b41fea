"""A folder of audio files -> one HDF5 file in SHD's layout, through the cochlea.

    folder/yes/*.wav  folder/no/*.flac     one folder per class, its name is the class, or
    file,label[,speaker]                   a CSV file with these columns, paths within the folder

Each clip's random numbers derive from (seed, path within the folder), so the result does not depend
on the number of processes. Finished clips lie in `OUT.work` until the last one is done: the same
command, given again after a crash, goes on from there.
"""

from __future__ import annotations

import csv as csv_files
import hashlib
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from ...errors import DataError
from ..cache import stamp
from ..events import Events
from ..folders import class_files
from ..processes import run_jobs
from ..seeds import file_seed
from .cochlea import VERSION, encode, membrane_response
from .shd import write_shd

ENDINGS = (".wav", ".flac")
COLUMNS = ("file", "label", "speaker")


class Clip(NamedTuple):
    """One audio file: `path` within the folder, with "/"; `speaker` None where unknown."""

    path: str
    label: str
    speaker: str | None = None


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
) -> dict[str, str | int]:
    """Encodes every wav and flac file under `folder` and writes `out` in SHD's layout.

    Classes are sorted by name. `processes`: None for all cores. Returns {"file", "clips",
    "classes", "spikes", "resumed"}: counts, `resumed` of clips found finished.
    Errors: DataError naming the file that is missing, unreadable, silent or already there.
    Source of the encoder: arXiv 1910.07407.
    """
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise DataError(f"{out} exists already: delete it or choose another name")
    clips = find_clips(folder) if csv is None else read_csv(folder, Path(csv))
    work = Path(f"{out}.work")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {work} cannot be made ({error.strerror})") from error
    jobs = [_job(folder, clip.path, work, seed) for clip in clips]
    open_jobs = {job.done: job for job in jobs if not job.done.exists()}
    _run(list(open_jobs.values()), processes, progress)

    classes = sorted({clip.label for clip in clips})
    labels = [classes.index(clip.label) for clip in clips]
    write_shd(out, map(_finished, jobs), labels, classes, _speaker_numbers(clips))
    spikes = sum(np.load(job.done, mmap_mode="r").shape[1] for job in jobs)
    resumed = sum(job.done not in open_jobs for job in jobs)
    shutil.rmtree(work)
    counts = {"clips": len(clips), "classes": len(classes), "spikes": spikes, "resumed": resumed}
    return {"file": str(out), **counts}


def find_clips(folder: Path) -> list[Clip]:
    """The audio files of a folder with one folder per class, as `class_files` finds them.
    Errors: DataError if there are none."""
    files = class_files(folder, ENDINGS, deep=True)
    clips = [Clip(path.relative_to(folder).as_posix(), label) for label, path in files]
    if not clips:
        raise DataError(f"{folder} holds no class folders with wav or flac files: see --csv")
    return clips


def read_csv(folder: Path, path: Path) -> list[Clip]:
    """The audio files listed in a CSV file with the columns file, label and perhaps speaker.
    Errors: DataError naming the line if a column or a file is missing."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv_files.DictReader(file))
    except (OSError, UnicodeDecodeError, csv_files.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file ({error})") from error
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise DataError(f"{path} needs a first line `file,label` or `file,label,speaker`, and rows")
    clips = []
    for line, row in enumerate(rows, start=2):
        name, label, speaker = ((row.get(key) or "").strip() for key in COLUMNS)
        if not (name and label and (speaker or "speaker" not in row)):
            raise DataError(f"{path}, row {line}: a field is empty")
        if not (folder / name).is_file():
            raise DataError(f"{path}, row {line}: there is no file {folder / name}")
        clips.append(Clip(Path(name).as_posix(), label, speaker or None))
    return clips


def encode_file(job: Job) -> None:
    """Reads one audio file and leaves its spikes, int64 (2, n) of t_us and unit, at `job.done`.
    Errors: DataError naming the file."""
    try:
        audio, rate_hz = soundfile.read(job.audio)
        events = encode(audio, rate_hz, job.seed, _response(job.response))
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{job.audio} cannot be read as audio ({error})") from error
    except DataError as error:
        raise DataError(f"{job.audio}: {error}") from error
    if len(events) == 0:
        raise DataError(f"{job.audio} gives no spikes: it is too short, leave it out")
    part = job.done.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as file:
        np.save(file, np.stack([events.t_us, events.x.astype(np.int64)]))
    os.replace(part, job.done)


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


def _speaker_numbers(clips: list[Clip]) -> list[int] | None:
    names = [clip.speaker for clip in clips if clip.speaker is not None]
    if len(names) < len(clips):
        return None
    if all(name.isascii() and name.isdigit() and int(name) < 2**16 for name in names):
        return [int(name) for name in names]
    ordered = sorted(set(names))
    return [ordered.index(name) for name in names]
