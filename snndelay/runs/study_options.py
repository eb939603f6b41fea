"""Command line of `snndelay study`: its own options, and those of train.py for every run."""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigError, RunError, nearest
from .files import absolute_paths
from .flat import lines_of, refuse_unknown
from .grid import Grid
from .help import option, shown
from .options import CHANGEABLE, parse, parse_train, parse_value, train_parser
from .presets import PRESETS
from .studies import STUDIES, NamedStudy, listing
from .study_file import Study, new_study, read_study

OWN = ("runs", "run", "compare")  # a study says itself where its runs lie, and compares them


@dataclass(frozen=True)
class StudyRequest:
    """What a command line asks for: a study, the rest of the one in its folder (`study` None), or
    only text to print. `given`: the settings that are options."""

    out: Path = Path()
    study: Study | None = None
    given: dict[str, Any] = field(default_factory=dict)
    processes: int | None = None
    text: str | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(re.sub("^argument ", "", message))


def parse_study(argv: list[str]) -> StudyRequest:
    """Command line of `snndelay study` -> what it asks for. Raises ConfigError, DataError or
    RunError, one sentence each."""
    own, rest = _own_parser().parse_known_args(argv)
    if own.list:
        return StudyRequest(text=listing())
    if own.processes is not None and own.processes < 1:
        raise ConfigError(f"--processes is {own.processes}: give a number from 1")
    if own.resume is not None:
        return _resumed(own, rest)
    named = _named(own.preset)
    words = _words(own.grid)
    if named is not None:
        if rest and not rest[0].startswith("-"):
            raise ConfigError(f"study {own.preset} is of {named.data}: leave out {rest[0]}")
        chosen = {w[2:].split("=")[0].replace("-", "_") for w in rest if w.startswith("--")}
        fixed = {name: v for name, v in named.settings.items() if name not in words}
        words = {axis: v for axis, v in named.grid.items() if axis not in chosen} | words
        options = [f"{option(name)}={shown(value)}" for name, value in fixed.items()]
        rest = [named.data, *options, *rest]
    elif own.preset is not None:
        rest = [*rest, "--preset", own.preset]
    request = parse_train(rest, lenient=True)
    if request.text is not None:
        return StudyRequest(text=request.text)
    study = new_study(
        request.preset,
        absolute_paths(request.settings) | _alone(request.settings["kind"]),
        _grid(request.settings["kind"], words, request.given),
    )
    return StudyRequest(_out(own, named), study, request.given, own.processes)


def _out(own: argparse.Namespace, named: NamedStudy | None) -> Path:
    """The folder of a study, which one without a name needs."""
    if named is None and own.out is None:
        raise ConfigError("say where the study goes: add --out DIR")
    return own.out or Path("studies", own.preset)


def _own_parser() -> argparse.ArgumentParser:
    parser = _Parser("snndelay study", allow_abbrev=False, add_help=False)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--list", action="store_true")
    return parser


def _resumed(own: argparse.Namespace, rest: list[str]) -> StudyRequest:
    """The rest of a study: its folder says all but how and where it runs."""
    study = read_study(own.resume) if (own.resume / "study.json").is_file() else None
    if study is None:
        raise RunError(f"{own.resume} is no study: looked for study.json")
    words = {"--grid": own.grid, "--out": own.out, "--preset": own.preset}
    given = parse(train_parser(study.base["kind"]), rest)
    for name, value in given.items():
        if name not in CHANGEABLE:
            words[value if name == "target" else option(name)] = value
    for word, value in words.items():
        if value not in (None, [], False):
            raise ConfigError(f"--resume goes on with the study as it is: leave out {word}")
    given = {name: value for name, value in given.items() if name in CHANGEABLE}
    _refuse_own(given)
    return StudyRequest(own.resume, None, given, own.processes)


def _named(preset: str | None) -> NamedStudy | None:
    """The study of this name; None if it is a preset of train.py, or none is given."""
    if preset in (None, *PRESETS):
        return None
    if preset not in STUDIES:
        raise ConfigError(f"unknown preset {preset!r}: {nearest(preset, [*STUDIES, *PRESETS])}")
    return STUDIES[preset]


def _words(grid: list[str]) -> dict[str, str]:
    """Axis -> the word that has its values, from `delays=learned,fixed`."""
    words = {}
    for word in grid:
        axis, _, values = word.partition("=")
        axis = axis.replace("-", "_")
        if not (axis and values.strip(",")):
            raise ConfigError(f"--grid {word} has no values: write --grid delays=learned,fixed")
        if axis in words:
            raise ConfigError(f"axis {axis} is given twice: write all its values in one --grid")
        words[axis] = values
    return words


def _grid(kind: str, words: dict[str, str], given: dict[str, Any]) -> Grid:
    """Axis -> its values, each read as train.py would."""
    if not words:
        raise ConfigError("a study needs an axis: add --grid delays=learned,fixed,none")
    refuse_unknown(kind, words)
    _refuse_own({**given, **words})
    grid = {}
    for axis, word in words.items():
        if axis in CHANGEABLE:
            raise ConfigError(
                f"{axis} changes no result, so it can be no axis: give {option(axis)}"
            )
        if axis in given:
            raise ConfigError(f"{axis} is an axis and an option: leave out {option(axis)}")
        parts = re.split(r",(?![^\[]*\])", word)  # not within [256,128]
        values = [parse_value(kind, axis, part) for part in parts]
        grid[axis] = [absolute_paths({axis: value})[axis] for value in values]
        for i, value in enumerate(grid[axis]):
            if value in grid[axis][:i]:
                raise ConfigError(f"axis {axis} has the value {shown(value)} twice: keep one")
    return grid


def _refuse_own(names: dict[str, Any]) -> None:
    for name in OWN:
        if name in names:
            raise ConfigError(f"a study sets {name} itself: leave out {option(name)}")


def _alone(kind: str) -> dict[str, bool]:
    """What keeps a run of vision from training a second network."""
    return {"compare": False} if "compare" in lines_of(kind) else {}
