"""A folder of images -> simulated recordings, in the layout of N-Caltech101.

    FOLDER/<class>/<image>.jpg  ->  OUT/<class>/<image>.bin

Each recording's random numbers derive from (seed, class, file name), so the result does not depend
on the number of processes. Finished recordings lie in `OUT.work` until the last one is done: the
same command, given again after a crash, goes on from there.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError
from ..processes import run_jobs
from ..seeds import file_seed
from .atis import COLUMNS, RECORD, ROWS, write_atis
from .images import brightness, find_images, read_image
from .saccade import RECIPE, saccade

BEGUN = "begun.json"  # in the working folder: what was asked for


class Job(NamedTuple):
    """What a worker process needs for one recording: the image file, where its events go, and how
    to look at it."""

    image: Path
    out: Path
    seed: int
    size: tuple[int, int]


def encode_folder(
    folder: str | Path,
    out: str | Path,
    *,
    size: tuple[int, int] = (180, 240),
    seed: int = 0,
    processes: int | None = None,
    progress: bool = True,
) -> dict[str, str | int]:
    """Simulates a recording of every image under `folder` and writes the tree `out`.

    `size`: (H, W) of the sensor, at most (240, 256). `processes`: None for all cores. Returns
    {"folder", "recordings", "classes", "events", "resumed"}: counts, `resumed` of recordings
    found finished. Errors: DataError if `out` is there already, if there are no images, two images
    would make one file, or an image cannot be read.
    """
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    if not (1 <= size[0] <= ROWS and 1 <= size[1] <= COLUMNS):
        raise DataError(f"a sensor of {size} does not fit an ATIS file: H, W to {ROWS}, {COLUMNS}")
    if out.exists():
        raise DataError(f"{out} exists already: delete it or choose another name")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} with images to encode")
    images = find_images(folder)
    twice = [name for name, count in Counter(images.identities).items() if count > 1]
    if twice:
        raise DataError(f"{folder} has two images called {twice[0]}: rename one of them")
    work = Path(f"{out}.work")
    settings = {"images": images.fingerprint(), "size": size, "seed": seed, "recipe": RECIPE}
    _begin(work, images.classes, json.dumps(settings))
    names = [f"{identity}.bin" for identity in images.identities]
    jobs = [
        Job(path, work / name, file_seed(f"{seed}/{name}"), size)
        for path, name in zip(images.source, names, strict=True)
    ]
    open_jobs = [job for job in jobs if not job.out.exists()]
    run_jobs(encode_file, open_jobs, processes, progress, "image")
    for part in work.glob("*/*.part"):  # of a worker that was killed
        part.unlink()
    work.rename(out)
    (out / BEGUN).unlink()
    events = sum((out / name).stat().st_size for name in names) // RECORD
    counts = {"recordings": len(jobs), "classes": len(images.classes), "events": events}
    return {"folder": str(out), **counts, "resumed": len(jobs) - len(open_jobs)}


def encode_file(job: Job) -> None:
    """Simulates one recording and writes it. Errors: DataError naming the image."""
    image_HW = brightness(read_image(job.image))
    write_atis(job.out, saccade(image_HW, job.seed, job.size))


def _begin(work: Path, classes: list[str], settings: str) -> None:
    """Makes the working folder, or finds it as the same command left it."""
    begun = work / BEGUN
    try:
        if not begun.exists():
            for name in classes:
                (work / name).mkdir(parents=True, exist_ok=True)
            begun.write_text(settings)
        same = begun.read_text() == settings
    except OSError as error:
        raise DataError(f"the folder {work} cannot be made ({error.strerror})") from error
    if not same:
        raise DataError(
            f"{work} was begun with other images or settings: finish it with those, or delete it"
        )
