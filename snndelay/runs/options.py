"""Command line of train.py: one option per field of the three configs, and its help.

Later wins: preset < --config FILE < command line.
"""

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ..errors import ConfigError, nearest
from .machine import find_run, read_json
from .settings import CONFIGS, PRESET_NOTES, PRESETS, preset_settings

FIELDS = {field.name: field for kind in CONFIGS for field in dataclasses.fields(kind)}
# A resumed run may change how it is computed, never what is computed.
CHANGEABLE = ("device", "threads", "workers", "backend", "root", "download", "runs", "run")
# What only one of the two kinds of run understands.
SOUNDS_ONLY = (
    *(name for name in FIELDS if name.startswith(("aug_time", "aug_unit"))),
    "aug_drop", "aug_mix", "test_file", "units_per_channel", "n_hidden", "n_layers", "version",
    "kernel_count",
    "padding", "dropout_mask", "batchnorm", "lr_max", "label_smoothing", "workers", "neuron",
    "loss", "n_in", "n_out",
)  # fmt: skip
CAMERAS_ONLY = (
    "static", "static_channel", "static_fit", "static_as", "events_per_step", "frame_size",
    "cache", "split",
    "n_labelled", "test_fraction", "aug_crop", "aug_flip", "aug_rotate", "optimizer", "momentum",
    "lr_end", "warmup_epochs", "step_lambda", "step_target", "transfer", "pretrain_epochs",
    "coefficient", "domain_weight", "sliding", "sliding_power", "sliding_end", "compare",
)  # fmt: skip

_IMAGES, _ALIGN = ("transfer", ("align", "finetune")), ("transfer", ("align",))
# What has an effect only beside other settings: option -> (field, its values).
NEEDS = {
    "static": _IMAGES, "static_channel": _IMAGES, "static_fit": _IMAGES, "static_as": _IMAGES,
    "compare": _IMAGES, "coefficient": _ALIGN, "domain_weight": _ALIGN, "sliding": _ALIGN,
    "sliding_power": ("sliding", ("power",)), "sliding_end": _ALIGN,
    "pretrain_epochs": ("transfer", ("finetune",)), "momentum": ("optimizer", ("sgd",)),
    "events_per_step": ("framing", ("event_count",)),
}  # fmt: skip

OTHER_OPTIONS = {
    "preset": "recipe for a FILE or FOLDER; see --list; default: short or events",
    "config": "YAML or a run's config.json with settings",
    "resume": "go on with an interrupted run: its folder or name",
}
FLAGS = {
    "list": "presets and data sets",
    "help": "this text",
    "help-all": "every option",
}
COMMON = (
    "test_file", "static", "preset", "epochs", "batch_size", "lr_max", "seed", "n_hidden",
    "max_delay_steps", "delays", "dropout", "transfer", "n_labelled", "temporal_gradient",
    "valid_fraction", "device", "run", "config", "resume",
)  # fmt: skip

USAGE = "usage: python train.py [PRESET | FILE.h5 | FOLDER] [options]"
EXAMPLES = """\
examples:
  python train.py                               the digits in the package
  python train.py shd --download                the published recipe for SHD
  python train.py mine.h5 --test-file test.h5   your file in SHD's layout
  python train.py dvs                           images teach an event camera
  python train.py RECORDINGS --static IMAGES    the same on your folders
  python train.py --resume runs/shd-0           after Ctrl-C or a crash"""


@dataclass(frozen=True)
class Request:
    """What a command line asks for: settings of a run, or only text to print."""

    settings: dict = dataclasses.field(default_factory=dict)  # flat, for config.from_flat
    preset: str | None = None
    resume: Path | None = None
    text: str | None = None


def parse_train(argv: list[str]) -> Request:
    """Command line of train.py -> Request. Raises ConfigError or RunError, one sentence each."""
    parser = train_parser()
    given = parse(parser, argv)
    if given.get("help") or given.get("help_all"):
        return Request(text=help_all() if given.get("help_all") else help_short())
    if given.get("list"):
        return Request(text=listing())
    chosen = {name: given[name] for name in FIELDS if name in given}
    if given.get("resume"):
        return _resume(given, chosen)
    return _start(given, chosen, _read_config(parser, given.get("config")))


def _start(given: dict, chosen: dict, from_file: dict) -> Request:
    target = given.get("target")
    if target is not None and target not in PRESETS:
        if not (re.search(r"\.(h5|hdf5)$|/", target.lower()) or Path(target).is_dir()):
            hint = nearest(target, list(PRESETS))
            raise ConfigError(f"unknown preset {target!r}: {hint} (a file must end in .h5)")
        chosen["dataset"] = target
    dataset = chosen.get("dataset", from_file.get("dataset"))
    in_file = from_file.pop("preset", None)
    named = given.get("preset") or (target if target in PRESETS else in_file)
    own = "events" if Path(dataset or "x.h5").expanduser().is_dir() else "short"
    fallback = dataset if dataset in PRESETS else own if dataset else "spoken-digits"
    preset = named or fallback
    recipe = {k: v for k, v in preset_settings(preset).items() if k not in ("n_in", "n_out")}
    if target in PRESETS:
        from_file.pop("dataset", None)
    settings = recipe | from_file | chosen
    if "lr" in chosen and settings.get("lr_max") is not None:
        raise ConfigError("--lr is a constant rate in place of --lr-max: add --lr-max null")
    if "dataset" in given and given["dataset"] != chosen["dataset"]:
        raise ConfigError(f"both {target} and --dataset {given['dataset']}: give one of them")
    _check_kind(settings, given)
    if settings.get("dataset") == "gsc":
        raise ConfigError("preset gsc has no data: python train.py FILE.h5 --preset gsc")
    for name in ("dataset", "test_file", "static"):  # absolute: a run resumes from any folder
        path = Path(settings.get(name) or "").expanduser()
        if settings.get(name) not in (*PRESETS, "digits", None) and path.exists():
            settings[name] = str(path.resolve())
    return Request(settings, preset)


def _check_kind(settings: dict, given: dict) -> None:
    """Refuses options of the command line that this kind of run would ignore."""
    cameras = settings.get("network", "delay") != "delay"
    kind, other = ("cameras", "sounds") if cameras else ("sounds", "cameras")
    for name in SOUNDS_ONLY if cameras else CAMERAS_ONLY:
        if name in given:
            raise ConfigError(f"{option(name)} is for {other}, and this run is on {kind}")
    for name, (field, values) in NEEDS.items():
        unused = field not in given and settings.get(field) not in values
        if given.get(name) not in (None, False) and unused:
            wanted = f"{option(field)} {' or '.join(values)}"
            raise ConfigError(
                f"{option(name)} has no effect with {field} {settings.get(field)}: add {wanted}"
            )


def _resume(given: dict, chosen: dict) -> Request:
    folder = find_run(given["resume"])
    settings = read_json(folder / "config.json")
    preset = settings.pop("preset", None)
    for name in ("target", "preset", "config"):
        if given.get(name) not in (None, preset):
            raise ConfigError(f"--resume goes on with the settings of {folder}: leave out {name}")
    for name, value in chosen.items():
        if name not in CHANGEABLE and value != settings.get(name):
            raise ConfigError(
                f"--resume cannot change {option(name)} from {settings.get(name)} to {value}: "
                "start a new run"
            )
    return Request(settings | chosen, preset, folder)


def _read_config(parser: ArgumentParser, path: str | None) -> dict:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise ConfigError(f"there is no config file {path}")
    try:
        settings = yaml.load(Path(path).read_text(), _Words)
        if not isinstance(settings, dict):
            raise ConfigError(f"{path} has no settings: write lines such as `epochs: 20`")
        if "coefficient" in settings:  # a word or a number
            settings["coefficient"] = str(settings["coefficient"])
        found = vars(parser.parse_object(settings, defaults=False))
    except ArgumentError as error:
        raise ConfigError(f"{path}: {_sentence(parser, error)}") from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{path} is neither YAML nor JSON ({text})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no text file with settings ({error})") from None
    return {name: value for name, value in found.items() if name in FIELDS or name == "preset"}


class _Words(yaml.SafeLoader):
    """YAML in which `off`, the word of some options, is a word and no boolean (as in YAML 1.2)."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, expression) for tag, expression in resolvers if not tag.endswith(":bool")]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), ["t", "f"])


def train_parser() -> ArgumentParser:
    """Parser with one option per config field; names have dashes, destinations underscores."""
    parser = new_parser("train.py")
    parser.add_argument("target", nargs="?", type=str)
    for name in OTHER_OPTIONS:
        parser.add_argument(option(name), type=str | None)
    for name in FLAGS:
        parser.add_argument(option(name), action="store_true")
    for name, field in FIELDS.items():
        bare = {"nargs": "?", "const": True} if field.type is bool else {}
        parser.add_argument(option(name), type=field.type, default=field.default, **bare)
    return parser


def new_parser(prog: str) -> ArgumentParser:
    """Parser that raises instead of printing its usage."""
    return ArgumentParser(prog=prog, exit_on_error=False, add_help=False, allow_abbrev=False)


def parse(parser: ArgumentParser, argv: list[str]) -> dict[str, Any]:
    """The options that argv gives, without defaults. ConfigError with one sentence."""
    try:
        given: Namespace = parser.parse_args(argv, defaults=False)
    except ArgumentError as error:
        raise ConfigError(_sentence(parser, error)) from None
    return vars(given)


def option(name: str) -> str:
    """Field name -> option: max_delay_steps -> --max-delay-steps."""
    return "--" + name.replace("_", "-")


def _sentence(parser: ArgumentParser, error: ArgumentError) -> str:
    """jsonargparse's message, several lines and Python types, as one sentence."""
    text = " ".join(str(error).split())
    options = [o for action in parser._actions for o in action.option_strings]
    if match := re.match(r"unrecognized arguments: (.*)", text):
        word = next((w for w in match[1].split() if w.startswith("-")), match[1]).split("=")[0]
        if word.startswith("-"):
            return f"unknown option {word}: {nearest(word, options)}"
        return f"unexpected argument {word!r}"
    if match := re.match(r"Option '(\S+)' is not accepted", text):
        names = [o[2:].replace("-", "_") for o in options]
        return f"unknown setting {match[1]!r}: {nearest(match[1], names)}"
    if match := re.match(r'Parser key "(\w+)".*(?:Got value|Given value): (.*)$', text):
        kinds = " or ".join(dict.fromkeys(re.findall(r"<class '(\w+)'>", text.split("Given")[0])))
        kinds = kinds.replace("NoneType", "null")
        return f"{option(match[1])} is {match[2]}: give a value of type {kinds}"
    if match := re.match(r"argument (\S+): expected one argument", text):
        return f"{match[1]} needs a value"
    return text


def field_docs() -> dict[str, str]:
    """The text under each config field."""
    docs = {}
    for kind in CONFIGS:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore
        for line, after in itertools.pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr):
                docs[line.target.id] = " ".join(after.value.value.split())  # type: ignore
    return docs


def help_short() -> str:
    """Help that fits a screen of 80 x 40."""
    lines = _option_lines(COMMON, short=True) + _flag_lines()
    note = "defaults come from the preset; every option: --help-all"
    return "\n".join([USAGE, "", *lines, note, "", EXAMPLES])


def help_all() -> str:
    """Help with every option, by config."""
    lines = [USAGE, ""]
    for kind in CONFIGS:
        names = tuple(field.name for field in dataclasses.fields(kind))
        lines += [(kind.__doc__ or "").strip(), *_option_lines(names), ""]
    others = _option_lines(tuple(OTHER_OPTIONS)) + _flag_lines()
    return "\n".join([*lines, "Other", *others, "", EXAMPLES])


def _option_lines(names: tuple[str, ...], short: bool = False) -> list[str]:
    docs, lines = field_docs() | OTHER_OPTIONS, []
    for name in names:
        text = docs[name].split(";")[0] if short else docs[name]
        if name in FIELDS and not short:
            default = FIELDS[name].default
            text += f" [{'null' if default is None else str(default).lower()}]"
        first, *rest = textwrap.wrap(text, 54)
        lines += [f"  {option(name):23s} {first}", *(" " * 26 + more for more in rest)]
    return lines


def _flag_lines() -> list[str]:
    return [f"  --{name:21s} {text}" for name, text in FLAGS.items()]


def listing() -> str:
    """Presets and data sets, one line each."""
    presets = [f"  {name:15s}{PRESET_NOTES[name]}" for name in PRESETS]
    return "\n".join(["presets", *presets, "", data_listing()])


def data_listing() -> str:
    """Data sets, one line each: the first sentence of each opener's docstring."""
    from ..data.audio.sets import DATASETS
    from ..data.vision.sets import CAMERAS

    lines = ["data sets"]
    for name, opener in (DATASETS | CAMERAS).items():
        text = " ".join((opener.__doc__ or "").split()).split(". ")[0]
        lines.append(f"  {name:15s}{text}")
    return "\n".join(
        [
            *lines,
            "  FILE.h5        any file in SHD's layout (see snndelay encode audio)",
            "  FOLDER         recordings <class>/<recording>.bin (see snndelay encode images)",
        ]
    )
