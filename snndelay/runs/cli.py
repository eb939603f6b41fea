"""`snndelay VERB`, also `python -m snndelay VERB`; `snndelay train` is train.py."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from ..data import catalog
from ..data.names import printable
from ..errors import ConfigError, Interrupted, UserError, nearest
from ..starting import not_first, started, started_together, write_anything
from ..version import VERSION
from .flat import from_flat
from .options import new_parser, parse, parse_train


def guarded(command: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: what a user can mend becomes one sentence on
    stderr and code 2 (1: a checkpoint could not be written; 130: Ctrl-C; 128 + n: signal n)."""
    started()
    write_anything()
    try:
        command(sys.argv[1:] if argv is None else argv)
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except UserError as error:
        code = error.exit_code
        prefix = "" if isinstance(error, Interrupted) else "error: "
        said = error.told_elsewhere or (isinstance(error, ConfigError) and not_first())
        if not said:
            print(prefix + printable(" ".join(str(error).split())), file=sys.stderr)
        return code
    except ModuleNotFoundError as missing:
        if (missing.name or "snndelay").startswith("snndelay"):
            raise
        print(f"error: there is no {missing.name}: install snndelay anew", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("memory", str(error)):
            raise
        print("error: out of memory: lower --batch-size or --n-hidden", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            name = f"{error.filename}"
            print(f"error: {name[:40]}... is too long for a name: {len(name)}", file=sys.stderr)
            return 2
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        place = error.filename or "a file"
        verb = "use" if error.errno == errno.EACCES else "write"
        print(f"error: cannot {verb} {place} ({error.strerror})", file=sys.stderr)
        return 2


def train(argv: list[str]) -> None:
    """train [PRESET | FILE.h5 | FOLDER] [options]
    train a network; options: snndelay train --help"""
    request = parse_train(argv)
    if request.text is not None:
        print(request.text)
        return
    settings = from_flat(request.settings)  # refuses bad settings before the slow imports
    from .training import fit

    allow = None if request.allow_changes else request.given
    fit(settings, preset=request.preset, resume=request.resume, allow=allow)


def evaluate(argv: list[str]) -> None:
    """evaluate RUN [NAME | FILE.h5 | FOLDER] [--checkpoint last|best] [--device D] [--reverse]
    accuracy and spikes of a run on its test samples or on others, with --reverse on clips played
    backwards; for others also --time-unit, --time-zero and --skip-bad, where they need another one
    than the run, --root, --skip-unknown (leave out classes that the run does not know) and
    --sensor H W"""
    parser = _parser_of_a_run("evaluate")
    parser.add_argument("data", nargs="?", type=str)
    parser.add_argument("--test-file", type=str)
    for flag in ("--skip-bad", "--skip-unknown", "--reverse"):
        parser.add_argument(flag, type=bool, nargs="?", const=True)
    given = parse(parser, argv)
    from . import saved
    from .report import spike_line

    which = given.get("checkpoint") or "last"
    result = saved.evaluate(
        given["run"],
        given.get("data"),
        test_file=given.get("test_file"),
        which=which,
        device=given.get("device") or "auto",
        reverse=bool(given.get("reverse")),
        skip_unknown=bool(given.get("skip_unknown")),
        sensor=_pair(given.get("sensor")),
        **{name: given[name] for name in saved.READING if given.get(name) is not None},
    )
    for note in result["notes"]:
        print(printable(note))
    rounded, exact = ", delays rounded", f"without rounding {result['accuracy_unrounded']:.1%}\n"
    if not result["rounded"]:
        rounded = exact = ""
    print(
        f"accuracy {result['accuracy']:.1%} (n = {result['n']}, standard error "
        f"{result['standard_error']:.1%}; {which} checkpoint{rounded})\n"
        f"{exact}{spike_line(result)}\n"
    )
    names = [printable(row["class"]) for row in result["classes"]]
    width = max(map(len, names))
    for name, row in zip(names, result["classes"], strict=True):
        share = f"{row['correct']}/{row['n']}"
        print(f"  {name:{width}s}  {share:>9s}  {row['accuracy']:6.1%}")


def predict(argv: list[str]) -> None:
    """predict RUN NAME|FILE|FOLDER|- [--out FILE.csv|.jsonl] [--top K] [--batch-size N]
    class, probability and latency of every sample, labelled or not; - reads events as text from
    standard input, `t unit` or `t x y p`; further --checkpoint, --device, --time-unit, --time-zero,
    --root and --sensor H W; what cannot be used is named and skipped, and the exit code is 1"""
    parser = _parser_of_a_run("predict")
    parser.add_argument("data", type=str)
    parser.add_argument("--out", type=str)
    parser.add_argument("--top", type=int)
    parser.add_argument("--batch-size", type=int)
    given = parse(parser, argv)
    from .other import Other
    from .predict_command import predict_command

    names = ("device", "top", "batch_size", "root", "time_unit", "time_zero")
    how = {name: given[name] for name in names if given.get(name) is not None}
    other = Other(given["data"], sensor=_pair(given.get("sensor")))
    which = given.get("checkpoint") or "last"
    predict_command(given["run"], other, given.get("out"), which=which, **how)


def _parser_of_a_run(verb: str) -> ArgumentParser:
    """Parser of a verb on a finished run, with the options that all of them have."""
    parser = new_parser(f"snndelay {verb}")
    parser.add_argument("run", type=str)
    for option in ("--checkpoint", "--device", "--root", "--time-unit", "--time-zero"):
        parser.add_argument(option, type=str)
    parser.add_argument("--sensor", type=tuple[int, int])
    return parser


def _pair(numbers: list[int] | None) -> tuple[int, int] | None:
    if numbers is None:
        return None
    height, width = numbers
    if min(height, width) < 1:
        raise ConfigError(f"--sensor is {height} {width}: give its height and width in pixels")
    return height, width


def encode(argv: list[str]) -> None:
    """encode audio FOLDER OUT.h5 [--csv FILE] [--split S] [--skip-bad] [--seed N] [--processes N]
      a folder of sound files -> a file to train on
    snndelay encode images FOLDER OUT [--size N N] [--seed N] [--processes N]
      a folder of images -> simulated recordings of an event camera"""
    parser = new_parser("snndelay encode")
    parser.add_argument("kind", type=str)
    parser.add_argument("folder", type=str)
    parser.add_argument("out", type=str)
    parser.add_argument("--csv", type=str)
    parser.add_argument("--split", type=str)
    parser.add_argument("--skip-bad", type=bool, nargs="?", const=True)
    parser.add_argument("--size", type=tuple[int, int])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--processes", type=int)
    given = parse(parser, argv)
    kinds = {"audio": ("csv", "split", "skip_bad"), "images": ("size",)}
    kind = given["kind"]
    if kind not in kinds:
        raise ConfigError(f"cannot encode {kind!r}: {nearest(kind, kinds)}")
    names = ("csv", "split", "skip_bad", "size", "seed", "processes")
    options = {k: given[k] for k in names if given.get(k) is not None}
    for name in options:
        if name not in (*kinds[kind], "seed", "processes"):
            raise ConfigError(f"--{name.replace('_', '-')} does not belong to encode {kind}")
    folder, out = Path(given["folder"]), Path(given["out"])
    if kind == "audio":
        from ..data.audio.encode_folder import encode_folder

        made = encode_folder(folder, out, **options)
        counts = f"{made['clips']} clips of {made['classes']} classes, {made['spikes']:,} spikes"
        skipped = f"; left out {made['skipped']} files that cannot be used" * bool(made["skipped"])
        print(f"{made['file']}: {counts}{skipped}")
        return
    from ..data.vision.encode_folder import encode_folder

    if "size" in options:
        options["size"] = tuple(options["size"])
    made = encode_folder(folder, out, **options)
    counts = f"{made['recordings']} recordings of {made['classes']} classes"
    print(f"{made['folder']}: {counts}, {made['events']:,} events")


def convert(argv: list[str]) -> None:
    """convert IN OUT [--split train|valid|test] [--skip-bad] [--root D] [--download]
    a recording -> OUT.npz; a folder, table or data set -> a tree of .npz, or with OUT.h5 one file
    in SHD's layout, as clips also become; --time-unit s|ms|us|ns where files do not say theirs,
    --time-zero first-event, and of clips --n-units and --label-key"""
    parser = new_parser("snndelay convert")
    parser.add_argument("source", type=str)
    parser.add_argument("out", type=str)
    for name in ("--split", "--root", "--time-unit", "--time-zero", "--label-key"):
        parser.add_argument(name, type=str)
    parser.add_argument("--n-units", type=int)
    for name in ("--skip-bad", "--download"):
        parser.add_argument(name, type=bool, nargs="?", const=True)
    given = {name: value for name, value in parse(parser, argv).items() if value is not None}
    source, out = given.pop("source"), given.pop("out")
    from ..data.convert import convert

    done = convert(source, out, progress=sys.stderr.isatty(), **given)
    if skipped := done["skipped"]:
        print(f"{len(skipped)} left out, the first because {skipped[0]}")
    print(f"{done['out']}: {done['samples']} samples, {done['events']:,} events")


def data(argv: list[str]) -> None:
    """data [NAME | FILE | FOLDER] [--check] [--json] [--plot FILE.png] [--download --root DIR]
    the data sets known by name; of one of them, a file or a folder: what is in it, what is skipped
    and why, counts, rates, duplicates, and what the frames would lose; --check reads every sample
    (exit code 1 if one is bad); options of train.py, --preset too, say how a run would read it"""
    own = {"check": False, "json": False, "plot": None}
    rest = _taken_out(argv, own)
    if not rest and own == {"check": False, "json": False, "plot": None}:
        print("\n".join(catalog.listing()))
        return
    from .look_command import look_command  # slow imports

    look_command(rest, **own)


def _taken_out(argv: list[str], own: dict[str, Any]) -> list[str]:
    """The words that are none of the options `own`, whose values are put there: flags are False,
    others None. ConfigError for a value that is missing."""
    rest, words = [], iter(argv)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in own or (own[name] is False and equals):
            rest.append(word)
        elif own[name] is False or own[name] is True:
            own[name] = True
        elif not (value := value if equals else next(words, "")) or value.startswith("--"):
            raise ConfigError(f"--{name} needs a value")
        else:
            own[name] = value
    return rest


def profile(argv: list[str]) -> None:
    """profile [--ops OP ...] [--preset NAME ...] [--compare] [--plot FILE.png]
    time, memory and distance to the machine's limit of every op and backend"""
    from ..kernels.profile.command import profile

    def draw(lines: list[dict], path: Path) -> None:
        from .plots.roofline import roofline  # matplotlib is slow to import

        roofline(lines, path)

    profile(argv, draw)


def study(argv: list[str]) -> None:
    """study DATA --grid delays=learned,fixed,none --grid seed=0,1,2 --out DIR [--processes N]
      train every cell of a grid in parallel processes, one core each; a table and a picture of
      accuracies in DIR; an option of train.py holds for all cells, and every setting can be an
      axis: --grid n_hidden=16,32,[32,16] --grid lr_max=null,0.01; the same DIR takes more values
    snndelay study --preset NAME | --list | --resume DIR
      a study that has a name; their list; the rest of a study that was stopped"""
    from .study_options import parse_study

    request = parse_study(argv)
    if request.text is not None:
        print(request.text)
        return
    from .study import run_study  # slow imports, after all that can be refused

    run_study(request)


def export(argv: list[str]) -> None:
    """export RUN --weights OUT.safetensors [--checkpoint last|best]
    the weights of a run with its settings in one file, which snndelay.load reads and in which
    nothing can be run"""
    parser = new_parser("snndelay export")
    parser.add_argument("run", type=str)
    for option in ("--weights", "--checkpoint"):
        parser.add_argument(option, type=str)
    given = parse(parser, argv)
    if not given.get("weights"):
        raise ConfigError("say where the weights go: add --weights OUT.safetensors")
    from .saved import export_weights

    print(export_weights(given["run"], given["weights"], given.get("checkpoint") or "last"))


def doctor(argv: list[str]) -> None:
    """doctor [--root DIR]
    versions, devices and caches; which backends run here, why others do not, and whether every op
    computes what its reference says (exit code 1 if one does not); what a report should hold"""
    parser = new_parser("snndelay doctor")
    parser.add_argument("--root", type=str)
    given = parse(parser, argv)
    from .doctor import doctor as look  # slow imports

    look(given.get("root") or catalog.ROOT)


VERBS = {"train": train, "study": study, "evaluate": evaluate, "encode": encode, "data": data}
VERBS |= {
    "predict": predict,
    "convert": convert,
    "export": export,
    "profile": profile,
    "doctor": doctor,
}


def usage() -> str:
    """Text of `snndelay --help`."""
    lines = [f"  snndelay {verb.__doc__}" for verb in VERBS.values()]
    return "\n".join(["usage: snndelay VERB ...", "", *lines])


def _calls(verb: str) -> str:
    """The ways to call a verb, without their options."""
    lines = (
        line.strip().removeprefix("snndelay ") for line in f"{VERBS[verb].__doc__}".split("\n")
    )
    calls = (re.sub(r" \[.*", "", line) for line in lines if line.startswith(f"{verb} "))
    return ", ".join(f"snndelay {call}" for call in calls)


def run_verb(argv: list[str]) -> None:
    """The first word is the verb, the rest are its arguments."""
    verb, *rest = argv or ["--help"]
    if verb in ("--help", "-h"):
        print(usage())
    elif verb == "--version":
        print(f"snndelay {VERSION}")
    elif verb not in VERBS:
        raise ConfigError(f"unknown verb {verb!r}: {nearest(verb, list(VERBS))}")
    elif {"--help", "-h"} & {*rest} and verb not in ("train", "profile"):  # they have their own
        print(f"usage: snndelay {VERBS[verb].__doc__}")
    elif started_together() and verb != "train":
        raise ConfigError(f"{verb} runs in one process: start it without torchrun")
    else:
        try:
            VERBS[verb](rest)
        except ConfigError as error:
            if "arguments are required" not in str(error):
                raise
            raise ConfigError(f"{error} (usage: {_calls(verb)})") from None


def main(argv: list[str] | None = None) -> int:
    """Entry point `snndelay`. Returns the exit code."""
    return guarded(run_verb, argv)
