"""What a run on audio files does otherwise than one on clips of events: their frames are made
before the first epoch, and nothing in them is a spike."""

from dataclasses import asdict, replace
from typing import Any

import torch

from ..data.audio.dense import check_frames_take, frame_loader
from ..data.audio.loader import Loader
from ..data.audio.log_mel import LogMel
from ..data.audio.waves import FrameSet, WaveSet, frame_clips
from ..errors import ConfigError
from .evaluation import Evaluation
from .files import frames_folder
from .settings import AudioSettings

OF_EVENTS = ("units_per_channel", "framing", "held")  # arguments of `loader` alone


def framed(
    settings: AudioSettings, waves: WaveSet, name: str, device: torch.device
) -> tuple[FrameSet, list[str]]:
    """The log-mel frames of the part `name`, and what to tell about them. Errors as `frame_clips`,
    and ConfigError for framing by events."""
    frames, data = settings.frames, settings.data
    if frames.framing != "grid":
        raise ConfigError(f"framing is {frames.framing}, and audio files hold no events: use grid")
    check_frames_take(asdict(settings.augment))
    how = log_mel_of(settings)
    place = {"device": device, "data_on": settings.machine.data_on}
    place |= {"folder": frames_folder(settings)}
    return frame_clips(waves, how, name=name, skip_bad=data.skip_bad, **place)


def log_mel_of(settings: AudioSettings) -> LogMel:
    """How the files of a run become frames."""
    frames = settings.frames
    steps = (frames.dt_ms, frames.n_mels, frames.n_steps)
    return LogMel(*steps, frames.window_ms, frames.window_overlap)


def dense_loader(clips: FrameSet, how: dict[str, Any]) -> Loader:
    """Batches of frames, with the arguments of `loader`."""
    return frame_loader(clips, **{k: v for k, v in how.items() if k not in OF_EVENTS})


def of_frames(result: Evaluation) -> Evaluation:
    """An evaluation without input spikes: decibels are none."""
    return replace(result, input_spikes=None)
