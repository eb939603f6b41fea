"""The text of `snndelay data`, made of what `look_at` found."""

from collections.abc import Iterator
from typing import Any

from ..data.names import printable

FEW = 5  # bad samples that are named, unless all were asked for
WIDTH = 78  # of the counts of classes


def lines(found: dict[str, Any], check: bool) -> list[str]:
    """The whole text, line by line. `check`: name every bad sample."""
    told = [*_head(found)]
    if "tasks" in found:
        return [*told, *_tasks(found)]
    told += [*_files(found), "", *_table(found["parts"]), "", *_classes(found)]
    told += ["", *_places(found), *_duplicates(found), *_bad(found["parts"], check)]
    told += found["notes"]
    told += [f"picture: {found['plot']}"] if "plot" in found else []
    return [*map(printable, told)]


def _head(found: dict[str, Any]) -> Iterator[str]:
    title = f": {found['title']}" if "title" in found else ""
    yield f"{found['name']}{title} ({found['kind']})"
    if "title" in found:
        yield f"  licence {found['licence']}, {found['size']}, from {found['url']}"
        yield f"  {found['protocol']}; train with: {found['command']}"
    if "frames" in found:
        yield f"  frames of preset {found['preset']}: {found['frames']}"


def _tasks(found: dict[str, Any]) -> Iterator[str]:
    drawn = found["trials"]
    yield f"  {drawn['per_epoch']:,} trials per epoch, {drawn['to_test']:,} of each N to test"
    yield ""
    rows = [["N", "bits per trial", "guessing: training", "validation and test"]]
    for row in found["tasks"]:
        chance = [f"{row['chance'][name]:.1%}" for name in ("training", "validation")]
        rows.append([str(row["n"]), "{} to {}".format(*row["bits"]), *chance])
    yield from _aligned(rows)
    yield f"always the more frequent label, counted in {found['estimated_from']:,} trials each"


def _files(found: dict[str, Any]) -> Iterator[str]:
    files = found["files"]
    if files["n"]:
        where = f" in {files['folder']}" if files["folder"] else ""
        yield f"  {_many(files['n'], 'file')}, {size_words(files['bytes'])}{where}"
    for path, digest in files.get("sha256", {}).items():
        yield f"  sha256 {digest}  {path}"
    if "sha256_of_all" in files:
        yield f"  sha256 {files['sha256_of_all']}  (of the lines of sha256sum, by name)"
    for row in found.get("archives", []):
        said = {None: "not verified, see --check", True: "as published", False: "NOT AS PUBLISHED"}
        yield f"  archive {row['file']}: {said[row['as_published']]}"
    for row in found.get("skipped", []):
        yield f"  skipped {row['n']:,}: {row['reason']} ({row['first']})"


def _table(parts: list[dict[str, Any]]) -> list[str]:
    """A row per part; spreads are the median with the 5th and the 95th percentile."""
    head = ["part", "samples", "events", "events per sample", "per second", "duration (s)"]
    rows = [[*head, "lost"]]
    for part in parts:
        n, seen = part["samples"], part["looked_at"]
        spreads = [_spread(part[key]) for key in (
            "events_per_sample", "events_per_second", "duration_s")]  # fmt: skip
        lost = part["lost_share"]
        rows.append([
            part["name"], f"{n:,}" if n == seen else f"{seen:,} of {n:,}", f"{part['events']:,}",
            *spreads, "-" if lost is None else _share(lost),
        ])  # fmt: skip
    told = _aligned(rows)
    told.append("median (5 % .. 95 %) of a sample; lost: events outside the frames")
    if any(part["samples"] > part["looked_at"] for part in parts):
        told.append("looked at a part, at even distances; all: --check")
    return told


def _classes(found: dict[str, Any]) -> Iterator[str]:
    parts = found["parts"]
    names = " / ".join(part["name"] for part in parts)
    yield f"{_many(len(found['classes']), 'class')}, samples in {names}:"
    line = ""
    for name in found["classes"]:
        counts = "/".join(str(part["per_class"][name]) for part in parts)
        word = f"  {name} {counts}"
        if line and len(line) + len(word) > WIDTH:
            yield line
            line = ""
        line += word
    yield line
    speakers = {part["name"]: {*part["speakers"]} for part in parts if "speakers" in part}
    if speakers:
        yield "speakers: " + ", ".join(f"{name} {len(who)}" for name, who in speakers.items())
    if "test" in speakers and len(speakers) > 1:
        others = set().union(*(who for name, who in speakers.items() if name != "test"))
        yield f"  of those of test, {len(speakers['test'] & others)} speak elsewhere too"


def _places(found: dict[str, Any]) -> Iterator[str]:
    places, what = found["places"], "unit" if "units" in found else "pixel"
    sensor = "" if "units" in found else " ({} x {}, height x width)".format(*found["sensor"])
    yield (
        f"{_many(places['n'], what)}{sensor}: {places['silent']:,} silent, events per second "
        f"{_spread(places['events_per_second'])}"
    )
    ones = [part["polarity_1_share"] for part in found["parts"]]
    if ones and ones[0] is not None:
        yield f"  polarity 1: {_share(ones[0])} of the events of {found['parts'][0]['name']}"
    if places["hot"]:
        first = ", ".join(
            f"{_place(row['at'])} {_share(row['share'])}" for row in places["hottest"]
        )
        few = "first: " if places["hot"] > len(places["hottest"]) else ""
        share = _share(places["hot_share"])
        yield f"  hot: {_many(places['hot'], what)}, {share} of the events ({few}{first})"


def _place(at: list[int]) -> str:
    return f"unit {at[0]}" if len(at) == 1 else f"x {at[1]}, y {at[0]}"


def _duplicates(found: dict[str, Any]) -> Iterator[str]:
    same = found["duplicates"]
    seen = sum(part["looked_at"] for part in found["parts"])
    if not same["groups"]:
        yield f"duplicates: none among {_many(seen, 'sample')}"
        return
    yield (
        f"duplicates: {same['surplus']:,} of {_many(seen, 'sample')} have the events of another one"
    )
    for row in same["between"]:
        a, b = row["parts"]
        yield f"  warning: {_many(row['groups'], 'sample')} of {a} also in {b}"
    if same["of_other_classes"]:
        n = same["of_other_classes"]
        yield f"  warning: the same events have different classes in {_many(n, 'case')}"
    yield f"  the first: {' = '.join(same['first'][0])}"


def _bad(parts: list[dict[str, Any]], check: bool) -> Iterator[str]:
    for part in parts:
        bad = part["bad"]
        if not bad:
            continue
        yield f"{part['name']}: {_many(len(bad), 'sample')} that a run would refuse"
        for row in bad if check else bad[:FEW]:
            own = "" if row["sample"] in row["why"] else f"{row['sample']}: "
            yield f"  {own}{row['why']}"
        if len(bad) > FEW and not check:
            yield f"  and {len(bad) - FEW:,} more, see --check"


def _aligned(rows: list[list[str]]) -> list[str]:
    """A table: the first column to the left, the others to the right."""
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([
            row[0].ljust(width[0]), *(w.rjust(n) for w, n in zip(row[1:], width[1:], strict=True))
        ]).rstrip()
        for row in rows
    ]  # fmt: skip


def _spread(values: list[float] | None) -> str:
    if values is None:
        return "-"
    low, middle, high = (_number(value) for value in values)
    return f"{middle} ({low} .. {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share == 0 or share >= 0.001 else f"{100 * share:.2g}%"


def _many(n: int, what: str) -> str:
    ending = "es" if what.endswith("s") else "s"
    return f"{n:,} {what}{'' if n == 1 else ending}"


def size_words(n: float) -> str:
    """A number of bytes: `12.3 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"
