"""Command line of train.py: one option per setting of the run's kind.

The kind comes from the data: what the command line, a config file or an earlier run name decides
it, and only then are options read. Later wins: preset < --config FILE < command line.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ..data.catalog import DATASETS, kind_of
from ..errors import ConfigError, RunError, alternatives, nearest
from .config_file import NAMES, about, read_config
from .fields import check, choices_of
from .files import find_run, read_json
from .flat import check_network, lines_of, refuse_unknown, unmet
from .help import FLAGS, OTHER_OPTIONS, help_all, help_short, listing, option, shown
from .machine import program
from .presets import OWN, PRESETS, preset_settings
from .settings import FROM_DATA, KINDS, Data

# A resumed run may change how it is computed, and not what is computed
CHANGEABLE = ("device", "data_on", "graph", "threads", "workers", "backend", "root", "download")
CHANGEABLE += ("runs", "run", "checkpoint_every")
# but for where its data are now, if they are the same, and the rates that a bad step ended on.
PLACES = ("dataset", "test_file", "static")
RATES = ("lr", "lr_max", "lr_position", "lr_tau", "grad_clip")
ALL_LINES = {name: line for kind in KINDS for name, line in lines_of(kind).items()}
LISTS = {
    option(name)
    for kind in KINDS
    for name, line in lines_of(kind).items()
    if "tuple" in str(line.type)
}


@dataclass(frozen=True)
class Request:
    """What a command line asks for: settings of a run, or only text to print."""

    settings: dict = dataclasses.field(default_factory=dict)  # flat, for flat.from_flat
    preset: str | None = None
    resume: Path | None = None
    text: str | None = None
    given: dict = dataclasses.field(default_factory=dict)  # the settings that are options
    allow_changes: bool = False  # of a resumed run: its config.json may have been edited


@dataclass(frozen=True)
class _Start:
    """Where a new run starts from: its preset, its kind, its data if they are named, else they are
    the preset's, and the settings of its config file as they stand there."""

    preset: str
    kind: str
    dataset: str | None
    from_file: dict[str, Any]


def parse_train(argv: list[str], lenient: bool = False) -> Request:
    """Command line of train.py -> Request. lenient: keeps options that have no effect beside the
    others. Raises ConfigError, DataError or RunError, one sentence each."""
    words = parse(any_kind_parser(), argv)  # as they stand: their types depend on the kind
    if words.get("help"):
        return Request(text=help_short())
    if words.get("list"):
        return Request(text=listing())
    if words.get("resume") is not None:
        return _resume(words, argv)
    if words.get("allow_changes"):
        raise ConfigError("--allow-changes is for a run that goes on: add --resume RUN")
    start = _start(words)
    if words.get("help_all"):
        return Request(text=help_all(start.kind, _recipe(start.preset)))
    request = _new_run(start, _options(start.kind, words, argv), words)
    if not lenient:
        check_effect(start.kind, request.settings, request.given)
    return request


def _start(words: dict) -> _Start:
    """What the words that name data, a preset and a config file say together: the command line wins
    over the file, and may not contradict itself."""
    path, (own, recipe) = words.get("config"), _meaning(words.get("target"))
    from_file = read_config(path)
    in_file = {name: from_file.pop(name, None) for name in NAMES}
    for named, other in ((own, "dataset"), (recipe, "preset")):
        if named and words.get(other, named) != named:
            raise ConfigError(f"both {named} and --{other} {words[other]}: give one of them")
    dataset, named = own or words.get("dataset"), words.get("preset") or recipe
    with about(path if named is None else None):
        named = named or in_file["preset"]
        kind = None if named is None else preset_settings(named)["kind"]
    with about(path if dataset is None else None):
        dataset = dataset or in_file["dataset"]
        kind = kind if dataset is None else kind_of(dataset)
    kind = _agreed(kind, in_file["kind"], path)
    preset = named or _recipe_of(dataset or Data().dataset, kind)
    found = preset_settings(preset)["kind"]
    if found != kind:
        hint = f"try --preset {_recipe_of(dataset, kind)}"
        raise ConfigError(f"preset {preset} is for {found}, and this run is on {kind}: {hint}")
    return _Start(preset, kind, dataset, from_file)


def _meaning(target: str | None) -> tuple[str | None, str | None]:
    """(data, preset) of the word without an option: data are a name, a file or a folder, and the
    name of a preset that is no data set stands for its recipe only."""
    if target is None or target in DATASETS:
        return target, None
    if target in PRESETS:
        return None, target
    if re.search(r"\.(h5|hdf5|npz|csv)$|/", target.lower()) or os.path.isdir(target):
        return target, None
    hint = nearest(target, dict.fromkeys([*PRESETS, *DATASETS]))
    raise ConfigError(f"unknown preset {target!r}: {hint} (a file must end in .h5, .npz or .csv)")


def _agreed(kind: str | None, said: str | None, path: str | None) -> str:
    """The kind of a run, which its data or its preset know and its config file may say too."""
    if said not in (None, *KINDS):
        raise ConfigError(f"{path}: unknown kind {said!r}: {nearest(str(said), KINDS)}")
    kind, named = kind or kind_of(Data().dataset), kind is not None
    if said not in (None, kind):
        hint = "leave out its line `kind`" if named else "add a line `dataset`"
        raise ConfigError(f"{path} is for {said}, and this run is on {kind}: {hint}")
    return kind


def _recipe_of(dataset: str | None, kind: str) -> str:
    """The preset of data that come without one: that of their name, else that of their kind."""
    return dataset if dataset in DATASETS and dataset in PRESETS else OWN[kind]


def _options(kind: str, words: dict, argv: list[str]) -> dict[str, Any]:
    """The settings that the command line gives, read as those of a kind."""
    refuse_unknown(kind, [name for name in words if name in ALL_LINES], option)
    given = parse(train_parser(kind), argv)
    return {name: given[name] for name in lines_of(kind) if name in given}


def _new_run(start: _Start, given: dict[str, Any], words: dict) -> Request:
    """Settings of a new run: those of its preset, then of its config file, then given ones."""
    settings = _recipe(start.preset) | _typed(start, words.get("config")) | given
    settings["dataset"] = start.dataset or settings.get("dataset")
    if start.dataset is None and settings["dataset"] not in DATASETS:
        own = {"audio": "FILE.h5", "vision": "FOLDER", "memory": "n-parity"}[start.kind]
        command = f"{program()} {own} --preset {start.preset}"
        raise ConfigError(f"preset {start.preset} has no data: {command}")
    return Request(settings, start.preset, given=given)


def _recipe(preset: str) -> dict[str, Any]:
    """Settings of a preset, without the sizes that data say."""
    return {k: v for k, v in preset_settings(preset).items() if k not in FROM_DATA}


def check_effect(kind: str, settings: dict, given: dict[str, Any]) -> None:
    """ConfigError for options of the command line that have no effect beside the others."""
    for name, value in given.items():
        lack = unmet(kind, settings, name) if value not in (None, False) else None
        if lack is not None:
            other, values = lack[0], alternatives(lack[1])
            now = shown(settings.get(other, lines_of(kind)[other].default))
            hint = f"add {option(other)} {values}"
            if other in given:
                hint = f"leave out {option(name)} or change {option(other)} to {values}"
            raise ConfigError(f"{option(name)} has no effect with {other} {now}: {hint}")
    widths = settings.get("n_hidden")
    if isinstance(widths, tuple) and given.get("n_layers", len(widths)) != len(widths):
        raise ConfigError(f"--n-hidden names {len(widths)} layers: leave out --n-layers")


def _resume(words: dict, argv: list[str]) -> Request:
    if not words["resume"]:
        raise ConfigError("--resume is empty: give the folder or the name of a run")
    folder = find_run(words["resume"])
    settings = read_json(folder / "config.json")
    preset, kind = settings.pop("preset", None), settings.get("kind")
    if kind not in [*KINDS] or not isinstance(preset, str | None):
        raise ConfigError(f"{folder / 'config.json'} names no kind of run: start a new run")
    refuse_unknown(kind, (name for name in settings if name != "kind"))
    if words.get("help_all"):
        return Request(text=help_all(kind, settings))
    for name in ("target", "preset", "config"):
        if words.get(name) not in (None, preset):
            word = words[name] if name == "target" else option(name)
            raise ConfigError(f"--resume goes on with the settings of {folder}: leave out {word}")
    chosen = _options(kind, words, argv)
    for name, value in chosen.items():
        if name not in (*CHANGEABLE, *PLACES, *RATES) and value != settings.get(name):
            raise ConfigError(
                f"--resume cannot change {option(name)} from {settings.get(name)} to {value}: "
                "start a new run"
            )
    return Request(
        settings | chosen, preset, folder, None, chosen, bool(words.get("allow_changes"))
    )


def changed_names(
    one: dict[str, Any], other: dict[str, Any], given: Collection[str] = ()
) -> list[str]:
    """Names, in order, of what makes two runs of these settings different ones. given: those that
    may differ."""
    same = {"kind", *CHANGEABLE, *PLACES, *given}
    return sorted(name for name in one.keys() & other.keys() - same if one[name] != other[name])


def check_unchanged(
    folder: Path, began: dict[str, Any], now: dict[str, Any], given: Collection[str]
) -> None:
    """RunError if a run would go on with other settings than it began with. began: those in its
    checkpoint. now: those that it would go on with. given: names of those that may be others."""
    changed = [
        f"{name} is {shown(now[name])} and was {shown(began[name])}"
        for name in changed_names(began, now, given)
    ]
    if changed:
        raise RunError(
            f"{folder / 'config.json'} was changed since the run began ({'; '.join(changed)}): "
            "change it back, or add --allow-changes to go on with it"
        )


def _typed(start: _Start, path: str | None) -> dict[str, Any]:
    """The settings of a config file, read as those of the run's kind."""
    lines, parser = lines_of(start.kind), train_parser(start.kind)
    with about(path):
        refuse_unknown(start.kind, start.from_file)
        try:
            found = vars(parser.parse_object(start.from_file, defaults=False))
        except ArgumentError as error:
            raise ConfigError(_sentence(parser, error, str)) from None
        found = {name: value for name, value in found.items() if name in start.from_file}
        check_network(start.kind, found)
        for name, value in found.items():
            check(lines[name], tuple(value) if isinstance(value, list) else value)
    return found


def parse_value(kind: str, name: str, word: str) -> Any:
    """The value of a setting that a word of the command line says, checked. ConfigError if it is
    none."""
    value = parse(train_parser(kind), [f"{option(name)}={word}"])[name]
    value = tuple(value) if isinstance(value, list) else value
    check(lines_of(kind)[name], value)
    return value


def any_kind_parser() -> ArgumentParser:
    """Parser that takes the options of every kind, each as the word that stands there."""
    return _parser({name: (str, line.type is bool) for name, line in ALL_LINES.items()})


def train_parser(kind: str) -> ArgumentParser:
    """Parser with one option per setting of a kind; names have dashes, destinations underscores."""
    return _parser({name: (line.type, line.type is bool) for name, line in lines_of(kind).items()})


def _parser(types: dict[str, tuple[Any, bool]]) -> ArgumentParser:
    """types: name -> its type, and whether the option may stand alone."""
    parser = new_parser("train.py")
    parser.add_argument("target", nargs="?", type=str)
    for name in OTHER_OPTIONS:
        parser.add_argument(option(name), type=str)
    for name in FLAGS:
        parser.add_argument(option(name), action="store_true")
    for name, (kind, alone) in types.items():
        bare = {"nargs": "?", "const": "true" if kind is str else True} if alone else {}
        parser.add_argument(option(name), type=kind, **bare)
    return parser


def new_parser(prog: str) -> ArgumentParser:
    """Parser that raises instead of printing its usage."""
    return ArgumentParser(prog=prog, exit_on_error=False, add_help=False, allow_abbrev=False)


def parse(parser: ArgumentParser, argv: list[str]) -> dict[str, Any]:
    """The options that argv gives, without defaults. ConfigError with one sentence."""
    try:
        given: Namespace = parser.parse_args(_listed(argv), defaults=False)
    except ArgumentError as error:
        raise ConfigError(_sentence(parser, error)) from None
    return vars(given)


def _listed(argv: list[str]) -> list[str]:
    """argv with `256,128` or `256 128` behind an option of several numbers as the list that
    jsonargparse reads."""
    joined, words = [""], []
    for word in argv:
        more = word.isdecimal() and re.fullmatch(r"[\d,]+", joined[-1]) and joined[-2] in LISTS
        joined += [f"{joined.pop()},{word}" if more else word]
    for before, word in itertools.pairwise(joined):
        name, value = word.split("=", 1) if "=" in word else (before, word)
        plain = name in LISTS and re.fullmatch(r"\d+(,\d+)+", value)
        words.append(word.removesuffix(value) + f"[{value}]" if plain else word)
    return words


def _sentence(
    parser: ArgumentParser, error: ArgumentError, spelled: Callable[[str], str] = option
) -> str:
    """jsonargparse's message, several lines and Python types, as one sentence. spelled: how the
    user wrote a setting's name."""
    text = " ".join(str(error).split())
    if match := re.match(r"unrecognized arguments: (.*)", text):
        word = next((w for w in match[1].split() if w.startswith("-")), match[1]).split("=")[0]
        if word.startswith("-"):
            return f"unknown option {word}: {_near(word, parser)}"
        return f"unexpected argument {word!r}"
    if match := re.match(r'Parser key "(\w+)".*(?:Got value|Given value): ?(.*)$', text):
        kinds = re.findall(r"<class '(\w+)'>|(tuple)\b", text.split("Given")[0])
        kinds = " or ".join(dict.fromkeys("".join(kind) for kind in kinds))
        kinds = kinds.replace("NoneType", "null").replace("tuple", "int,int")
        value = re.sub("^None$", "null", match[2]) or "empty"
        return f"{spelled(match[1])} is {value}: give a value of type {kinds}"
    if match := re.match(r"argument (\S+): expected one argument", text):
        return f"{match[1]} needs a value" + _choices(match[1])
    return text


def _near(word: str, parser: ArgumentParser) -> str:
    """What to write in place of an unknown option."""
    names = [o for action in parser._actions for o in action.option_strings]
    names = {name.lstrip("-"): name for name in names if name != "--print_shtab"}  # the library's
    hint = nearest(word.lstrip("-"), names)
    if match := re.match(r"did you mean (.*)\?", hint):
        return f"did you mean {names[match[1]]}?"
    if "help-all" in names:
        return "see --help-all"
    return f"choose one of {', '.join(names.values())}" if names else "there are no options here"


def _choices(name: str) -> str:
    """The words that an option takes, where they are few."""
    line = ALL_LINES.get(name.removeprefix("--").replace("-", "_"))
    choices = [*choices_of(line)] if line is not None else []
    text = f", {alternatives(choices)}" if len(choices) > 1 else ""
    if line is not None and name == "--version":
        text += f", the {line.metadata['help']} (of the package: snndelay --version)"
    return text
