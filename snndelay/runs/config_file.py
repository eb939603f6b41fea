"""Files of settings, YAML or JSON (a run's config.json is one). Every sentence names the file."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.reader import ReaderError

from ..errors import ConfigError, DataError

MOST_BYTES = 1 << 16  # of a file: all settings with their values take a tenth
MOST_DIGITS = 40  # of a whole number
NAMES = ("dataset", "preset", "kind")  # say what a run is, so they are read before its settings


def read_config(path: str | None) -> dict[str, Any]:
    """What a file of settings says, as it stands; nothing without a file. ConfigError if that is no
    settings by name."""
    if path is None:
        return {}
    if not Path(path).is_file():
        raise ConfigError(f"there is no config file {path}")
    try:
        raw = Path(path).read_bytes()
        if len(raw) > MOST_BYTES:
            raise ConfigError(
                f"it has {len(raw):,} bytes, and settings need {MOST_BYTES:,} at most"
            )
        settings = yaml.load(raw, _Words)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:  # the parser's own, and those of int, float, date and recursion
        what = "no text file" if isinstance(error, ReaderError) else "neither YAML nor JSON"
        raise ConfigError(f"{path} is {what} ({' '.join(str(error).split())})") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} has no settings: write lines such as `epochs: 20`")
    for name, value in settings.items():
        if not isinstance(name, str):
            raise ConfigError(f"{path}: {name!r} is no setting: write lines such as `epochs: 20`")
        if name in NAMES and not (isinstance(value, str) or (name == "preset" and value is None)):
            said = "null" if value is None else value
            raise ConfigError(f"{path}: {name} is {said}: give one name, or leave the line out")
    return settings


@contextmanager
def about(path: str | None) -> Iterator[None]:
    """Puts the name of a file before a sentence about what stands there; None: leaves it alone."""
    try:
        yield
    except (ConfigError, DataError) as error:
        if path is None:
            raise
        raise ConfigError(f"{path}: {error}") from None


class _Words(yaml.SafeLoader):
    """YAML in which `off`, the word of some options, is a word and no boolean (as in YAML 1.2), a
    name stands once, and nothing stands for what is written elsewhere: aliases of aliases grow
    beyond any memory. Tags that would run code are unknown to SafeLoader."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, expression) for tag, expression in resolvers if not tag.endswith(":bool")]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As SafeLoader, without aliases."""
        if self.check_event(yaml.AliasEvent):
            raise ConfigError(f"*{self.peek_event().anchor} is an alias: write out what is meant")
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """As SafeLoader, in few digits: Python does not write numbers of 5,000."""
        if (n := len(node.value)) > MOST_DIGITS:
            raise ConfigError(f"a number of {n:,} digits is no setting")
        return super().construct_yaml_int(node)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        """As SafeLoader, without the character that no path may have."""
        if "\0" in (text := super().construct_yaml_str(node)):
            raise ConfigError(f"{text!r} is no setting: take out the NUL")
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """As SafeLoader, which takes the last of two equal names in silence."""
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for name, n in Counter(names).items():
            if n > 1:
                raise ConfigError(f"{name} stands there more than once: keep one")
        return super().construct_mapping(node, deep)


_Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), ["t", "f"])
for _kind in ("int", "str"):
    _Words.add_constructor(f"tag:yaml.org,2002:{_kind}", getattr(_Words, f"construct_yaml_{_kind}"))
