"""Version of the package, also in a checkout that was never installed."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _read() -> str:
    try:
        return version("snndelay")
    except PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        text = project.read_text() if project.is_file() else ""
        found = re.search(r'^name = "snndelay"\nversion = "(.+)"$', text, re.MULTILINE)
        return found[1] if found else "unknown"


VERSION = _read()
