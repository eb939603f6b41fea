"""What a study is, and how its folder keeps it: study.json is the grid with its fixed settings,
results.jsonl has a line for every finished run."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from .files import read_json, write_atomic, write_json
from .flat import from_flat, to_flat
from .grid import Grid, key_of
from .help import shown
from .options import CHANGEABLE
from .report import read_lines

KINDS = {  # of what is in the line of a finished run
    **{"run": str, "settings": dict, "accuracy": (int, float), "seconds": (int, float)},
    **dict.fromkeys(("seed", "n", "n_classes", "parameters"), int),
}


@dataclass(frozen=True)
class Study:
    """`preset`: of train.py, for the summaries. `base`: every setting, flat; they hold where no
    axis says otherwise, and for an axis where it has no effect."""

    preset: str | None
    base: dict[str, Any]
    grid: Grid


def new_study(preset: str | None, settings: dict[str, Any], grid: Grid) -> Study:
    """A study of flat settings, those that are missing at their defaults."""
    defaults = to_flat(from_flat({"kind": settings["kind"]}))
    return Study(preset, defaults | _as_json(settings), _as_json(grid))


def read_study(folder: Path) -> Study | None:
    """The study of a folder; None if that is empty or missing. RunError if it holds other files."""
    if (folder / "study.json").is_file():
        found = read_json(folder / "study.json")
        try:
            preset, base, grid = found["preset"], found["base"], found["grid"]
            kinds = isinstance(preset, str | None), isinstance(base, dict), isinstance(grid, dict)
            if not all(kinds) or not all(isinstance(x, list) and x for x in grid.values()):
                raise TypeError("preset, base or grid are of another type")
            return new_study(preset, base, grid)
        except (KeyError, TypeError, ConfigError) as error:
            raise RunError(
                f"{folder / 'study.json'} is no study of this version: {error}"
            ) from None
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"{folder} is no study and not empty: choose another --out")
    return None


def write_study(folder: Path, study: Study) -> None:
    """Keep a study in its folder."""
    write_json(folder / "study.json", asdict(study))


def extended(folder: Path, old: Study, new: Study, given: dict[str, Any]) -> Study:
    """The study of a folder with the values of another command too: a study only grows.

    given: the options of the command. Fixed settings stay, but for those that say how and where.
    Raises RunError for another fixed setting, or for an axis that is an option now.
    """
    for name in old.grid:
        if name in given:
            words = f"--grid {name}={shown(given[name])}"
            raise RunError(f"{name} is an axis of the study in {folder}: give {words}")
    for name in new.base.keys() - old.grid.keys() - new.grid.keys() - {*CHANGEABLE}:
        before, now = (study.base.get(name) for study in (old, new))
        if before != now:
            raise RunError(
                f"{folder} holds a study with {name} {shown(before)}, not {shown(now)}: choose "
                f"another --out, or make it an axis, --grid {name}={shown(before)},{shown(now)}"
            )
    how = {name: new.base[name] for name in CHANGEABLE if name in new.base}
    grid = dict(old.grid)
    for axis, values in new.grid.items():
        first = grid.get(axis, [old.base[axis]])
        grid[axis] = [*first, *(value for value in values if value not in first)]
    return Study(old.preset, old.base | how, grid)


def read_results(folder: Path, study: Study) -> dict[str, dict[str, Any]]:
    """Key of a finished run -> its line in results.jsonl."""
    lines = _whole_lines(folder)
    return {key_of(to_flat(from_flat(study.base | line["settings"]))): line for line in lines}


def mend_results(folder: Path) -> None:
    """Leave out lines that are no results, as a last one that was cut off, so that the next one
    does not continue it."""
    lines = [json.dumps(line) + "\n" for line in _whole_lines(folder)]
    write_atomic(folder / "results.jsonl", "".join(lines).encode())


def _whole_lines(folder: Path) -> list[dict[str, Any]]:
    lines = read_lines(folder / "results.jsonl")
    lines = [x for x in lines if all(isinstance(x.get(k), of) for k, of in KINDS.items())]
    return [x for x in lines if x["n"] > 0 and 0 <= x["accuracy"] <= 1]


def add_result(folder: Path, line: dict[str, Any]) -> None:
    """Add the line of a finished run, durably."""
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    """The same with lists for tuples, as it comes back from a file."""
    return json.loads(json.dumps(content))
