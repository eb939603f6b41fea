"""Makes the embedded data set: espeak-ng speaks digits, the cochlea hears them.

    python -m snndelay.data.audio.make_spoken_digits spoken_digits.xz    # needs espeak-ng; minutes

Every random choice derives from SEED and the clip's place in the plan, and espeak-ng is
deterministic: the same release of espeak-ng, numpy and scipy gives the same file, whatever the
number of processes. The embedded file came from espeak-ng 1.51.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import subprocess
from typing import NamedTuple

import numpy as np
import soundfile
from scipy import signal
from tqdm import tqdm

from ...errors import DataError
from ..events import Events
from ..seeds import generator
from .cochlea import encode
from .spoken_digits import CLASSES, SPLITS, Split, pack

SEED = 2024


class Voice(NamedTuple):
    """One synthetic speaker; it speaks both languages (German has one accent)."""

    split: str
    variant: str
    """espeak-ng's voice variant: timbre, breath and intonation."""
    accent: str
    """of its English."""
    pitch: int
    """0..99; 50 is the variant's own."""
    words_per_minute: int


VOICES = [
    Voice("train", "m1", "en-us", 45, 190),
    Voice("train", "m2", "en-gb", 40, 175),
    Voice("train", "m3", "en-gb-scotland", 55, 205),
    Voice("train", "m4", "en-us", 35, 215),
    Voice("train", "m6", "en-gb-x-rp", 60, 180),
    Voice("train", "m7", "en-us-nyc", 50, 200),
    Voice("train", "m8", "en-029", 45, 195),
    Voice("train", "klatt2", "en-gb", 50, 185),
    Voice("train", "croak", "en-us", 40, 200),
    Voice("train", "f1", "en-us", 55, 200),
    Voice("train", "f2", "en-gb", 45, 220),
    Voice("train", "f4", "en-gb-x-gbclan", 60, 210),
    Voice("train", "f5", "en-us", 50, 185),
    Voice("train", "Annie", "en-gb-x-rp", 50, 205),
    Voice("train", "whisper", "en-us", 50, 190),
    Voice("test", "m5", "en-gb-x-gbcwmd", 50, 195),
    Voice("test", "f3", "en-us", 50, 195),
]
CLIPS = {"train": 4, "test": 8}  # of each class and voice


class Clip(NamedTuple):
    """One entry of the plan: indices into VOICES and CLASSES, and which clip of these two."""

    voice: int
    label: int
    number: int


PLAN = {
    split: [
        Clip(voice, label, number)
        for voice, speaker in enumerate(VOICES)
        if speaker.split == split
        for label in range(len(CLASSES))
        for number in range(CLIPS[split])
    ]
    for split in SPLITS
}


def speak(clip: Clip) -> tuple[np.ndarray, int]:
    """One spoken digit as it leaves espeak-ng, and the sample rate. float64 (samples,)."""
    voice = VOICES[clip.voice]
    rng = generator("speech", SEED, *clip)
    language = voice.accent if clip.label < 10 else "de"
    command = ["espeak-ng", "--stdout", "-v", f"{language}+{voice.variant}"]
    command += ["-p", str(voice.pitch + rng.integers(-15, 16))]
    command += ["-s", str(int(voice.words_per_minute * rng.uniform(0.8, 1.25)))]
    command += [CLASSES[clip.label].replace("ue", "ü")]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    audio, rate_hz = soundfile.read(io.BytesIO(wav))
    return audio, rate_hz


def in_a_room(audio: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """The same word from a microphone in a room: pauses, echo, tone colour, noise."""
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max())
    word = audio[loud[0] : loud[-1] + 1]
    pauses = (rng.uniform(0.01, 0.08, 2) * rate_hz).astype(int)
    word = np.pad(word, tuple(pauses))
    tail = int(0.15 * rate_hz)
    decay = np.exp(-np.arange(tail) / (rng.uniform(0.01, 0.05) * rate_hz))
    echo = rng.standard_normal(tail) * decay
    echo *= rng.uniform(0.1, 0.6) / np.sqrt(np.sum(echo**2))
    echo[0] = 1.0
    word = signal.fftconvolve(word, echo)[: word.size]
    word = signal.lfilter([1.0, rng.uniform(-0.5, 0.3)], [1.0], word)
    noise = signal.lfilter([1.0], [1.0, -rng.uniform(0.0, 0.9)], rng.standard_normal(word.size))
    noise *= word.std() / noise.std() * 10 ** (-rng.uniform(10, 30) / 20)
    return word + noise


def make_clip(clip: Clip) -> Events:
    """Plan entry -> spikes."""
    audio, rate_hz = speak(clip)
    rng = generator("room", SEED, *clip)
    return encode(in_a_room(audio, rate_hz, rng), rate_hz, seed=int(rng.integers(2**63)))


def make(processes: int, plan: dict[str, list[Clip]] = PLAN) -> dict[str, Split]:
    """Speaks and encodes the plan's clips. Errors: DataError without espeak-ng."""
    if shutil.which("espeak-ng") is None:
        raise DataError("espeak-ng is not installed; the package carries its result already")
    clips = [clip for split in SPLITS for clip in plan[split]]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        events = list(tqdm(pool.imap(make_clip, clips, chunksize=4), total=len(clips)))
    n_train = len(plan["train"])
    parts = {"train": events[:n_train], "test": events[n_train:]}
    return {split: _joined(parts[split], plan[split]) for split in SPLITS}


def _joined(events: list[Events], clips: list[Clip]) -> Split:
    offsets = np.cumsum([0] + [len(part.t_us) for part in events])
    return Split(
        np.concatenate([part.t_us for part in events]),
        np.concatenate([part.x for part in events]),
        offsets,
        np.array([clip.label for clip in clips]),
        np.array([clip.voice for clip in clips]),
        CLASSES,
    )


def main() -> None:
    """Command line; see the head of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", help="file to write")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    try:
        splits = make(args.processes)
    except DataError as error:
        parser.exit(2, f"{error}\n")
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    packed = pack(splits, f"{version.split('Data')[0].strip()}; seed {SEED}")
    with open(f"{args.out}.part", "wb") as file:
        file.write(packed)
    os.replace(f"{args.out}.part", args.out)
    for name, part in splits.items():
        spikes = len(part.t_us) / len(part.labels)
        print(f"{name}: {len(part.labels)} clips of {spikes:.0f} spikes on average")
    print(f"{args.out}: {len(packed) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
