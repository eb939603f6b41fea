"""Weights with the settings of their network in one file of safetensors: nothing in it is run, and
nothing is allocated before its tensors are known to be those of the network.
"""

import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import CheckpointCorrupt, ConfigError, DataError, RunError
from ..weights import not_finite
from .files import write_atomic
from .flat import from_flat, to_flat
from .network import new_network
from .settings import FROM_DATA, Settings

ENDING = ".safetensors"
LONGEST_HEADER = 10_000_000  # bytes; that of a network has some thousand


def write_weights(
    out: Path, net: nn.Module, settings: Settings, sizes: dict[str, Any], classes: list[str]
) -> None:
    """Write the weights of a network, delays as trained, with what it takes to build it.

    Raises ConfigError for a file of another ending, RunError if it cannot be written.
    """
    if out.suffix != ENDING:
        raise ConfigError(f"weights go to a file that ends in {ENDING}, not {out.name}")
    named = {"dataset": Path(settings.data.dataset).name}
    about = {"settings": to_flat(settings) | named, "sizes": sizes, "classes": classes}
    tensors = {name: x.contiguous() for name, x in net.state_dict().items()}
    try:
        write_atomic(out, save(tensors, {"snndelay": json.dumps(about)}))
    except OSError as error:
        raise RunError(f"cannot write {out} ({error.strerror})") from error


def read_weights(path: Path) -> tuple[nn.Module, Settings, list[str]]:
    """The network that `write_weights` wrote, on the CPU, its settings and classes.

    Raises:
        RunError: the file cannot be read.
        CheckpointCorrupt: the file is no such file: damaged, without settings of this version, or
            with tensors that its network has not, by name, shape or type, or that are not finite.
    """
    tensors, about = _read(path)
    try:
        settings, sizes = from_flat(about["settings"]), about["sizes"]
        classes = [str(name) for name in about["classes"]]
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
        if {*sizes} - {*FROM_DATA}:
            raise ConfigError(f"it has sizes of {', '.join({*sizes} - {*FROM_DATA})}")
        with torch.device("meta"):  # no memory yet
            wanted = new_network(settings, sizes).state_dict()
    except (ConfigError, DataError, AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"{path} describes no network of this version ({error}): export it anew"
        raise CheckpointCorrupt(" ".join(text.split())) from error
    for name in sorted(wanted.keys() | tensors.keys()):
        fault = _fault(wanted.get(name), tensors.get(name))
        if fault:
            raise CheckpointCorrupt(f"{path}: {name} {fault}: export it anew")
    if name := not_finite(tensors.items()):
        raise CheckpointCorrupt(f"{path}: {name} is NaN or infinite: export it anew")
    net = new_network(settings, sizes)
    net.load_state_dict(tensors)
    return net, settings, classes


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with path.open("rb") as file:
            (header,) = struct.unpack("<Q", file.read(8))
        if header > min(LONGEST_HEADER, path.stat().st_size):
            raise ValueError(f"its header says it has {header} bytes")
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["snndelay"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not isinstance(about, dict):
            raise ValueError("its settings are no object")
        return tensors, about
    except OSError as error:
        raise RunError(f"cannot read {path} ({error.strerror})") from error
    except (KeyError, RecursionError, SafetensorError, ValueError, struct.error) as error:
        why = "it has no settings" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CheckpointCorrupt(f"{path} holds no weights of snndelay ({why[:200]})") from error


def _fault(wanted: Tensor | None, found: Tensor | None) -> str:
    """What is wrong with a tensor of a file; empty if nothing is."""
    if wanted is None:
        return "belongs to no network of its settings"
    if found is None:
        return "is missing"
    if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
        return f"is {found.dtype} {tuple(found.shape)}, not {wanted.dtype} {tuple(wanted.shape)}"
    return ""
