"""Settings by name: the flat namespace of a run's components, and what holds across them.

The command line, YAML files and config.json speak in flat names; a run has components.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..data.catalog import kind_of
from ..errors import ConfigError, nearest
from ..networks import NETWORKS, networks_of
from .settings import KINDS, Data, Settings


def components_of(kind: str) -> dict[str, type]:
    """Component name -> class, in the order in which a run of this kind has them."""
    return {part.name: part.type for part in dataclasses.fields(KINDS[kind])}  # type: ignore


def lines_of(kind: str) -> dict[str, dataclasses.Field]:
    """Name of every setting of a kind -> its line."""
    parts = components_of(kind).values()
    return {line.name: line for part in parts for line in dataclasses.fields(part)}


def other_kinds(kind: str) -> list[str]:
    """All kinds but one."""
    return [name for name in KINDS if name != kind]


def refuse_unknown(kind: str, names: Iterable[str], spelled: Callable[[str], str] = str) -> None:
    """ConfigError for the first name that is no setting of a kind: one sentence that says whose it
    is, or which name is near. spelled: how the user wrote a name."""
    known = lines_of(kind)
    for name in names:
        if name in known:
            continue
        if owners := [other for other in other_kinds(kind) if name in lines_of(other)]:
            raise ConfigError(
                f"{spelled(name)} is for {' and '.join(owners)}, and this run is on {kind}: "
                "leave it out"
            )
        raise ConfigError(f"unknown setting {name!r}: {nearest(name, known)}")


def from_flat(flat: dict[str, Any]) -> Settings:
    """Flat settings -> those of a run. `kind` among them says which; without it the data do.

    Raises ConfigError or DataError with one sentence.
    """
    given = {name: value for name, value in flat.items() if name != "note"}  # of a preset
    kind = given.pop("kind", None) or kind_of(given.get("dataset", Data().dataset))
    refuse_unknown(kind, list(given))
    check_network(kind, given)
    for name, value in given.items():
        given[name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    made = {}
    for part, component in components_of(kind).items():
        names = {line.name for line in dataclasses.fields(component)} & given.keys()
        made[part] = component(**{name: given[name] for name in names})
    return KINDS[kind](**made)


def unmet(kind: str, flat: Mapping[str, Any], name: str) -> tuple[str, list[str]] | None:
    """Why a setting has no effect beside those in `flat`: the setting it needs, and the values that
    this should have; None if it has one. A need may itself have none."""
    lines = lines_of(kind)
    other, _, words = lines[name].metadata["needs"].partition("=")
    if not other:
        return None
    value, values = flat.get(other, lines[other].default), words.split("|")
    if ("null" if value is None else "number" if words == "number" else str(value)) not in values:
        return other, values
    return unmet(kind, flat, other)


def check_network(kind: str, flat: dict[str, Any]) -> None:
    """ConfigError if the network reads another kind of data."""
    name = flat.get("network")
    if name in NETWORKS and NETWORKS[name].kind != kind:
        raise ConfigError(
            f"network {name} is for {NETWORKS[name].kind}, and this run is on {kind}: "
            f"choose one of {', '.join(networks_of(kind))}"
        )


def to_flat(settings: Settings) -> dict[str, Any]:
    """One flat dictionary of all settings and their kind, ready for JSON."""
    flat: dict[str, Any] = {"kind": settings.kind}
    for part in dataclasses.fields(settings):
        flat |= dataclasses.asdict(getattr(settings, part.name))
    return {name: list(v) if isinstance(v, tuple) else v for name, v in flat.items()}
