"""Files of settings, YAML or JSON (a run's config.json is one). Every sentence names the file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ..errors import ConfigError, DataError

NAMES = ("dataset", "preset", "kind")  # say what a run is, so they are read before its settings


def read_config(path: str | None) -> dict[str, Any]:
    """What a file of settings says, as it stands; nothing without a file. ConfigError if that is no
    settings by name."""
    if path is None:
        return {}
    if not Path(path).is_file():
        raise ConfigError(f"there is no config file {path}")
    try:
        settings = yaml.load(Path(path).read_text(), _Words)
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{path} is neither YAML nor JSON ({text})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no text file with settings ({error})") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
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
    """YAML in which `off`, the word of some options, is a word and no boolean (as in YAML 1.2), and
    a name stands once."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, expression) for tag, expression in resolvers if not tag.endswith(":bool")]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """As SafeLoader, which takes the last of two equal names in silence."""
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{name} stands there more than once: keep one")
        return super().construct_mapping(node, deep)


_Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), ["t", "f"])
