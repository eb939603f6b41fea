"""Small audio files and the archive of Speech Commands in its exact layout."""

from pathlib import Path

import numpy as np
import soundfile


def write_wave(path: Path, f_hz: float = 440.0, ms: float = 300, rate: int = 16_000, seed: int = 0):
    """A tone with a little noise, in the format that the ending says."""
    rng, n = np.random.default_rng(seed), round(ms * rate / 1000)
    tone = 0.3 * np.sin(2 * np.pi * f_hz * np.arange(n) / rate) + 0.01 * rng.standard_normal(n)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone, rate)
    return path


def write_words(folder: Path, words=("no", "yes"), each: int = 6, endings=(".wav",), ms=300):
    """<word>/<k><ending>: a word is the pitch of its tone."""
    for k, word in enumerate(words):
        for i in range(each):
            name = f"{word}/{i}{endings[i % len(endings)]}"
            write_wave(folder / name, 300 * (k + 1) + 10 * i, ms, seed=100 * k + i)
    return folder


def write_speech_commands(folder: Path, each: int = 6):
    """Words with clips of three speakers, one each for training, validation and test."""
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for k, word in enumerate(("cat", "dog", "one")):
        for i in range(each):
            name = f"{word}/{'abc'[i % 3] * 8}_nohash_{i // 3}.wav"
            write_wave(folder / name, 300 * (k + 1) + 5 * i, 1000 - 100 * (i % 2), seed=10 * k + i)
            if i % 3:
                lists[list(lists)[i % 3 - 1]].append(name)
    write_wave(folder / "_background_noise_/pink_noise.wav", ms=2000)
    (folder / "LICENSE").write_text("CC BY 4.0")
    (folder / "README.md").write_text("Speech Commands")
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder
