"""A grid of settings: its cells, and the runs that they need.

A cell is one value on every axis. Where a value has no effect beside the others (`needs` of its
setting: max_delay_steps with delays none), the cells that differ in nothing else share one run.
"""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple

from ..data.catalog import kind_of
from ..data.names import as_bytes
from ..errors import ConfigError, DataError, alternatives
from .flat import from_flat, lines_of, to_flat, unmet
from .help import option, shown
from .options import CHANGEABLE, check_effect

Grid = dict[str, list[Any]]  # axis -> its values, in their order


class Run(NamedTuple):
    """One training. `name`: of its folder. `values`: axis -> value, of the axes that have an effect
    in it. `settings`: all of them, flat. `key`: what it computes; runs of equal keys are one."""

    name: str
    values: dict[str, Any]
    settings: dict[str, Any]
    key: str


class Cell(NamedTuple):
    """A value on every axis, and the run that belongs to it."""

    values: dict[str, Any]
    run: Run


def cells_of(base: dict[str, Any], grid: Grid) -> list[Cell]:
    """Every cell of a grid, seed by seed, so that what is done so far is balanced.

    base: flat settings, which hold where no axis says otherwise and for axes without effect.
    Raises ConfigError with the cell's name if one cannot be trained as its settings say.
    """
    order = sorted(grid, key=lambda axis: axis != "seed")
    products = itertools.product(*(grid[axis] for axis in order))
    every = [dict(zip(order, values, strict=True)) for values in products]
    return [_cell(base, {axis: values[axis] for axis in grid}) for values in every]


def _cell(base: dict[str, Any], values: dict[str, Any]) -> Cell:
    with named(values):
        flat = to_flat(from_flat(base | values))
        kind = flat["kind"]
        if kind_of(flat["dataset"]) != kind:
            raise ConfigError(f"{flat['dataset']} is {kind_of(flat['dataset'])}, not {kind}")
        kept = {axis: value for axis, value in values.items() if not unmet(kind, flat, axis)}
        flat = flat if kept == values else to_flat(from_flat(base | kept))
    return Cell(values, Run(folder_name(kept), kept, flat, key_of(flat)))


@contextmanager
def named(values: dict[str, Any]) -> Iterator[None]:
    """Puts the name of a cell before a sentence about its settings."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{words_of(values)}: {error}" if values else str(error)) from None


def words_of(values: dict[str, Any]) -> str:
    """`delays=learned, n_hidden=16`"""
    return ", ".join(f"{axis}={shown(value)}" for axis, value in values.items())


def folder_name(values: dict[str, Any]) -> str:
    """`delays=learned,n_hidden=16`; the values of a study's axes have different names."""
    words = words_of(values).replace(", ", ",") or "run"
    name = re.sub(r"[^\w=,.+-]", "_", words)[:120]
    # two names that were changed could be equal now: their hashes are not
    return name if name == words else f"{name}-{sha256(as_bytes(words)).hexdigest()[:6]}"


def key_of(flat: dict[str, Any]) -> str:
    """What a run computes: its settings that have an effect, without those of how and where."""
    names = sorted(flat.keys() & lines_of(flat["kind"]).keys() - {*CHANGEABLE})
    return json.dumps({n: flat[n] for n in names if not unmet(flat["kind"], flat, n)})


def check_effects(base: dict[str, Any], cells: list[Cell], given: dict[str, Any]) -> None:
    """ConfigError for an axis or an option that has no effect in any cell. given: the options."""
    kind, first = base["kind"], cells[0].values
    for axis in first:
        if all(axis not in cell.run.values for cell in cells):
            other, values = unmet(kind, base | first, axis) or ("", [])
            hint = f"add {option(other)} {alternatives(values)}"
            raise ConfigError(f"axis {axis} has no effect in any cell: {hint}")
    for name, value in given.items():
        lacks = [_lack(kind, base | cell.values, {name: value}) for cell in cells]
        if all(lacks):
            raise ConfigError(lacks[0])


def _lack(kind: str, flat: dict[str, Any], given: dict[str, Any]) -> str:
    """What is said about an option without effect; empty if it has one."""
    try:
        flat = {name: tuple(v) if isinstance(v, list) else v for name, v in flat.items()}
        check_effect(kind, flat, given)
    except ConfigError as error:
        return str(error)
    return ""
