"""What a line of `settings.py` is made of: its default, help, range, choices and condition."""

import dataclasses
import typing
from collections.abc import Callable, Collection
from typing import Any

from ..errors import ConfigError, nearest

MANY = 1_000_000


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: Collection[str] | Callable[[], Collection[str]] = (),
    needs: str = "",
) -> Any:
    """One setting.

    Args:
        low, high: range of a number, both inside.
        choices: the words it can be; a registry where there is one, or what finds them there, so
            that its next entry is a choice too.
        needs: ``name=value|value``, another setting and the values beside which this one has an
            effect; ``null`` for None.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "needs": needs}
    return dataclasses.field(default=default, metadata=about)


def choices_of(line: dataclasses.Field) -> Collection[str]:
    """The words that a setting can be, now; empty for any."""
    choices: Any = line.metadata["choices"]
    found: Any = choices() if callable(choices) else choices
    return found


class Component:
    """A group of settings about one subject; refuses values that cannot work.

    Raises ConfigError with one sentence that names the setting.
    """

    def __post_init__(self) -> None:
        for line in dataclasses.fields(self):  # type: ignore[arg-type]
            check(line, getattr(self, line.name))


def check(line: dataclasses.Field, value: Any) -> None:
    """ConfigError if value is not of the type, in the range or among the choices of a setting."""
    about = line.metadata
    choices, low, high = choices_of(line), about["low"], about["high"]
    if not _has_type(value, line.type):
        kind = getattr(line.type, "__name__", str(line.type))
        said = "null" if value is None else repr(value)
        raise ConfigError(f"{line.name} is {said}: give a value of type {kind}")
    if isinstance(value, str):
        if choices and value not in choices:
            number = "" if low is None else f", or give a number {_range(low, high)}"
            raise ConfigError(f"unknown {line.name} {value!r}: {nearest(value, choices)}{number}")
    elif low is not None and value is not None:
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                words = f"give {', '.join(choices)} or" if choices else "choose"
                text = f"{words} a number {_range(low, high)}"
                raise ConfigError(f"{line.name} is {number}: {text}")


def _range(*ends: float) -> str:
    """from 1 to 1000000: whole numbers in full."""
    low, high = (f"{end:.0f}" if end == int(end) else f"{end:g}" for end in ends)
    return f"from {low} to {high}"


def _has_type(value: object, kind: Any) -> bool:
    """Whether a value is of a field's type: a class, or a union of classes and tuples of int."""
    kinds = [kind] if isinstance(kind, type) else typing.get_args(kind)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, tuple):
        shapes = [typing.get_args(k) for k in kinds if typing.get_origin(k) is tuple]
        known = any(... in shape or len(shape) == len(value) for shape in shapes)
        return known and bool(value) and all(type(v) is int for v in value)
    return type(value) in kinds or (type(value) is int and float in kinds)
