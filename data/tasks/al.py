"""Autonomous localisation: at which ear a sound was heard just WAIT steps before the cue.

No definition of a task of this name is public, so this one is the project's own: two ears and a
cue, 400 steps, 2 classes. A clip has TRIALS trials of equal length. In each, the ear of the class
hears HIT spikes, and the cue of CUE spikes comes WAIT steps after them; the other ear hears as many
OFF[0] to OFF[1] steps earlier or later, as often the one as the other. So neither counts, nor which
ear was first, nor the time of the last sound say anything: only a memory that is exact to a few
steps over WAIT silent ones tells the classes apart.

Membranes that forget soon cannot bridge WAIT; spikes that arrive late within a recurrent layer can.
1,000 clips for training and 500 for testing, as many of either class; chance is 1 in 2.
"""

import numpy as np

from ..audio.sets import ClipSet
from .clips import SEED, clip_set, draws

NAME = "al"
STEPS, TRIALS = 400, 4
WAIT = 50  # steps from the sound at the ear of the class to the cue
OFF = (2, 5)  # fewest and most steps from the sound at one ear to that at the other
HIT, CUE = 2, 2  # spikes of a sound, and of the cue
CLIPS = {"train": 1000, "test": 500}


def open_al(root: str, split: str, download: bool, seed: int = SEED) -> ClipSet:
    """Sounds and cues; splits train and test, nothing to download. `seed`: of the clips."""
    rng = draws(NAME, split, seed)
    n, slot = CLIPS[split], STEPS // TRIALS
    label_N = rng.permutation(np.arange(n) % 2)  # 0: the left ear, which is unit 0
    start_Q = slot * np.arange(TRIALS)
    hit_NQ = rng.integers(OFF[1], slot - WAIT - CUE + 1, (n, TRIALS)) + start_Q
    side_NQ = rng.permuted(np.arange(n * TRIALS) % 2 * 2 - 1).reshape(n, TRIALS)
    other_NQ = hit_NQ + side_NQ * rng.integers(OFF[0], OFF[1] + 1, (n, TRIALS))
    ears_NEQ = np.stack([hit_NQ, other_NQ], 1)
    ears_NEQ[label_N == 1] = ears_NEQ[label_N == 1, ::-1]
    heard_NM = (ears_NEQ[..., None] + np.arange(HIT)).reshape(n, -1)
    cues_NM = ((hit_NQ + WAIT)[..., None] + np.arange(CUE)).reshape(n, -1)
    unit_M = np.repeat([0, 1, 2], [TRIALS * HIT, TRIALS * HIT, TRIALS * CUE])
    step_NM = np.concatenate([heard_NM, cues_NM], 1)
    return clip_set(NAME, split, step_NM, unit_M, label_N, ["left", "right"])
