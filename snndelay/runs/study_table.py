"""What the runs of a study say over seeds: a group is a cell of the grid with all its seeds."""

import csv
import io
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .files import write_atomic
from .grid import Cell, words_of
from .help import shown
from .options import CHANGEABLE
from .presets import preset_settings
from .settings import FROM_DATA
from .statistics import DELAY_PAIRS, difference, paired, percent, standard_error, table, welch
from .study_file import Study, new_study

NO_EFFECT = "–"


class Group(NamedTuple):
    """`values`: on all axes but seed. `kept`: those that have an effect; groups of the same are one
    and the same runs. `lines`: seed -> line of results.jsonl, of the finished runs."""

    values: dict[str, Any]
    kept: dict[str, Any]
    lines: dict[int, dict[str, Any]]

    @property
    def accuracies(self) -> list[float]:
        """Of every seed that is finished."""
        return [line["accuracy"] for line in self.lines.values()]

    @property
    def delays(self) -> str | None:
        """Its kind of delays, None where that is no axis."""
        return self.values.get("delays")

    def others(self) -> dict[str, Any]:
        """Its values on the axes beside delays."""
        return _without(self.values, "delays")

    def row(self) -> list[str]:
        """Its values as words; a dash where one has no effect."""
        return [shown(self.kept[axis]) if axis in self.kept else NO_EFFECT for axis in self.values]


def groups_of(cells: list[Cell], results: dict[str, dict[str, Any]]) -> list[Group]:
    """The groups of a grid, in its order. results: key of a run -> its line."""
    groups = {}
    for cell in cells:
        values, kept = (_without(part, "seed") for part in (cell.values, cell.run.values))
        group = groups.setdefault(_id(values), Group(values, kept, {}))
        if cell.run.key in results:
            line = results[cell.run.key]
            group.lines[line["seed"]] = line
    return list(groups.values())


def per_seed(groups: list[Group]) -> list[float]:
    """Accuracy of every seed that is finished in all of some groups, their mean."""
    seeds = [seed for seed in groups[0].lines if all(seed in g.lines for g in groups)]
    return [statistics.mean(g.lines[seed]["accuracy"] for g in groups) for seed in seeds]


def write_tables(folder: Path, study: Study, groups: list[Group]) -> None:
    """table.md and table.csv of a study."""
    text = "\n\n".join(_parts(study, groups))
    write_atomic(folder / "table.md", (text + "\n").encode(errors="backslashreplace"))
    write_atomic(folder / "table.csv", as_csv(groups).encode(errors="backslashreplace"))


def accuracy_table(groups: list[Group]) -> str:
    """Markdown: every group once, with its seeds, accuracy and standard error."""
    angles = any("angle_error" in line for g in groups for line in g.lines.values())
    rows = []
    for g in {_id(g.kept): g for g in groups}.values():
        row = [*g.row(), len(g.lines), percent(g.accuracies), *([_degrees(g)] if angles else [])]
        rows.append([*row, _of_all(g, "parameters"), from_to([x["n"] for x in g.lines.values()])])
    error = ["angle error, degrees"] if angles else []
    head = [*groups[0].values, "seeds", "accuracy", *error, "parameters", "n"]
    return table(" | ".join(head), rows)


def from_to(numbers: list[int]) -> str:
    """`450`, or `258 to 268`: how many samples seeds judge by, which may be splits of their own."""
    return " to ".join(map(str, sorted({min(numbers), max(numbers)}))) if numbers else ""


def _degrees(group: Group) -> str:
    """Mean angular error over seeds ± standard error, of data whose classes are angles."""
    found = [line["angle_error"] for line in group.lines.values() if "angle_error" in line]
    error = f" ± {standard_error(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{error}" if found else "not measured"


def difference_table(groups: list[Group]) -> str:
    """Markdown: what kinds of delays differ by, at equal other axes; empty without two kinds."""
    pairs = _pairs(groups)
    rows = {}
    for others, kinds in _by_delays(groups):
        kept = {axis for group in kinds.values() for axis in group.kept}
        row = [shown(others[axis]) if axis in kept else NO_EFFECT for axis in others]
        row += [
            difference(kinds[a].accuracies, kinds[b].accuracies)
            if kinds[a].lines and kinds[b].lines
            else "not measured"
            for a, b in pairs
        ]
        rows[_id([group.kept for group in kinds.values()])] = (
            row  # once, if no axis tells them apart
        )
    head = [*groups[0].others(), *(f"{a} - {b}" for a, b in pairs)]
    return table(" | ".join(head), [*rows.values()]) if pairs else ""


def effect_table(groups: list[Group]) -> str:
    """Markdown: what every other value of an axis brings beside its first one, all other axes and
    the seed equal, averaged over them; empty where no axis has two values that make a difference.
    Kinds of delays have a table of their own."""
    rows = []
    for axis in groups[0].values if groups else ():
        if axis == "delays" and _pairs(groups):
            continue
        rest = {_id(_without(g.values, axis)): {} for g in groups}
        for g in groups:
            rest[_id(_without(g.values, axis))][_id(g.values[axis])] = g
        first, *others = {_id(g.values[axis]): g.values[axis] for g in groups}.items()
        for key, value in others:
            pairs = [(at[first[0]], at[key]) for at in rest.values()]
            if any(a.kept != b.kept for a, b in pairs):
                row = [axis, shown(first[1]), shown(value)]
                rows.append([*row, *_effect([p for p in pairs if p[0].kept != p[1].kept])])
    return table("axis | from | to | points | p | seeds | pairs of runs", rows) if rows else ""


def _effect(pairs: list[tuple[Group, Group]]) -> list[Any]:
    """Mean difference over seeds ± standard error, p of a paired t-test over seeds, counts."""
    by_seed: dict[int, list[float]] = {}
    for a, b in pairs:
        for seed in a.lines.keys() & b.lines.keys():
            gain = 100 * (b.lines[seed]["accuracy"] - a.lines[seed]["accuracy"])
            by_seed.setdefault(seed, []).append(gain)
    if not by_seed:
        return ["not measured", NO_EFFECT, 0, 0]
    gains = [statistics.mean(gains) for gains in by_seed.values()]
    error = standard_error(gains)
    points = f"{statistics.mean(gains):+.1f}" + ("" if error is None else f" ± {error:.1f}")
    return [points, paired(gains), len(gains), sum(map(len, by_seed.values()))]


def as_csv(groups: list[Group]) -> str:
    """A line for every group, all axes spelled out, accuracies as fractions: n of seeds, mean,
    standard error, and the difference from other kinds of delays with Welch's p; empty fields where
    nothing can be said. `no_effect`: axes on which the group's value changes nothing."""
    against = list(dict.fromkeys(b for _, b in _pairs(groups)))
    out = io.StringIO()
    axes = [*groups[0].values]
    head = [*axes, "no_effect", "seeds", "accuracy", "standard_error", "n", "parameters"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, *(f"{word}_{b}" for b in against for word in ("minus", "p_against"))])
    kinds_at = {_id(others): kinds for others, kinds in _by_delays(groups)}
    for group in groups:
        found = group.accuracies
        row = [shown(value) for value in group.values.values()]
        row += [" ".join(axis for axis in axes if axis not in group.kept), len(found)]
        row += [statistics.mean(found), standard_error(found)] if found else [None, None]
        row += [_of_all(group, "n"), _of_all(group, "parameters")]
        for b in against:
            pair = (group.delays, b) in DELAY_PAIRS
            row += _against(found, kinds_at[_id(group.others())][b].accuracies if pair else [])
        writer.writerow(row)
    return out.getvalue()


def _against(a: list[float], b: list[float]) -> list[float | None]:
    """Difference of two means, and Welch's p; None where there is none."""
    if not (a and b):
        return [None, None]
    found = welch(a, b)
    return [statistics.mean(a) - statistics.mean(b), found.p if found else None]


def _pairs(groups: list[Group]) -> list[tuple[str, str]]:
    """The kinds of delays to compare, of those in the grid."""
    kinds = {group.delays for group in groups}
    return [(a, b) for a, b in DELAY_PAIRS if {a, b} <= kinds]


def _by_delays(groups: list[Group]) -> Iterator[tuple[dict[str, Any], dict[Any, Group]]]:
    """(values on the other axes, kind of delays -> its group) of every combination of these."""
    found: dict[str, dict[Any, Group]] = {}
    for group in groups:
        found.setdefault(_id(group.others()), {})[group.delays] = group
    for kinds in found.values():
        yield next(iter(kinds.values())).others(), kinds


def _parts(study: Study, groups: list[Group]) -> Iterator[str]:
    base, axes = study.base, study.grid
    grid = " ".join(f"--grid {a}={','.join(map(_word, values))}" for a, values in axes.items())
    yield f"# {Path(base['dataset']).name}, preset {study.preset}"
    yield f"Grid: `{grid}`. {_fixed(study)}".rstrip()
    on = (
        "validation samples, held out of training, after the last epoch"
        if base.get("protocol") == "validation"
        else "test samples after the last epoch, which choose nothing"
    )
    yield (
        f"Accuracy on the {on}: mean ± standard error over seeds. A dash: a setting without effect "
        "beside the others."
    )
    yield accuracy_table(groups)
    if text := difference_table(groups):
        yield (
            "Differences in points, with the p of Welch's two-sided t-test over seeds, not "
            "corrected for the number of comparisons."
        )
        yield text
    if text := effect_table(groups):
        yield (
            "What a value brings beside the first of its axis, in points, at equal other axes and "
            "seed: mean over seeds ± standard error; p of a paired t-test over seeds, which share "
            "their split, not corrected for the number of comparisons."
        )
        yield text


def _fixed(study: Study) -> str:
    """The settings of every run that are not those of the preset."""
    recipe = preset_settings(study.preset) if study.preset else {}
    usual = new_study(None, recipe | {"kind": study.base["kind"]}, {}).base
    ours = {*study.grid, *CHANGEABLE, *FROM_DATA, "dataset", "test_file", "compare"}
    changed = {n: v for n, v in study.base.items() if n not in ours and v != usual[n]}
    return f"Fixed: {words_of(changed)}." if changed else ""


def _word(value: Any) -> str:
    return f"[{shown(value)}]" if isinstance(value, list) else shown(value)


def _of_all(group: Group, name: str) -> Any:
    """A figure that the lines of a group share; empty if there are none or they do not."""
    found = {line[name] for line in group.lines.values()}
    return found.pop() if len(found) == 1 else ""


def _without(values: dict[str, Any], left_out: str) -> dict[str, Any]:
    return {axis: value for axis, value in values.items() if axis != left_out}


def _id(values: Any) -> str:
    return json.dumps(values)
