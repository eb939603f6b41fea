"""Autonomous localisation: which ear was hit first, asked much later.

No definition of a task of this name is public, so this one is the project's own: two ears and a
cue, 400 steps, 2 classes. At a random early time each ear hears a hit, HIT spikes in a row, one ear
LEAD steps before the other. Single spikes, DISTRACTORS on each ear, fall anywhere before the cue.
The cue comes WAIT steps after the second hit: two spikes, which ask which ear was first if they lie
GAPS[0] steps apart, and which was last if they lie GAPS[1] apart. The class is the answer, left or
right. So before the cue nothing can be known, whatever the readout sums up, and afterwards only
what was remembered helps: neither the hits nor the cue alone say anything.

Every unit fires as often in every clip. 1,000 clips for training and 500 for testing, as many of
every combination; chance is 1 in 2. For networks with memory: recurrent ones, with delays.
"""

import numpy as np

from ..audio.sets import ClipSet
from .clips import clip_set, draws

NAME = "al"
STEPS = 400
ONSET = (20, 80)  # first and last step of the first hit
LEAD = (5, 30)  # fewest and most steps from the first hit to the second
HIT, DISTRACTORS = 3, 4  # spikes of each ear
WAIT = (100, 150)  # fewest and most steps from the second hit to the cue
GAPS = (3, 12)  # steps between the spikes of the cue, by what it asks
CLIPS = {"train": 1000, "test": 500}


def open_al(root: str, split: str, download: bool, seed: int = 0) -> ClipSet:
    """Hits and questions; splits train and test, nothing to download. `seed`: of the clips."""
    rng = draws(NAME, split, seed)
    n = CLIPS[split]
    first_N, asks_last_N = np.divmod(rng.permutation(np.arange(n) % 4), 2)  # first: 0 is left
    onset_N, lead_N, wait_N = (rng.integers(low, high + 1, n) for low, high in (ONSET, LEAD, WAIT))
    second_N = onset_N + lead_N
    hit_NE = np.stack([onset_N, second_N], 1)
    hit_NE[first_N == 1] = hit_NE[first_N == 1][:, ::-1]
    cue_N = second_N + wait_N
    cues_N2 = np.stack([cue_N, cue_N + np.array(GAPS)[asks_last_N]], 1)
    others_NEM = (rng.random((n, 2, DISTRACTORS)) * cue_N[:, None, None]).astype(np.int64)
    hits_NEM = hit_NE[:, :, None] + np.arange(HIT)
    ears_NEM = np.concatenate([hits_NEM, others_NEM], 2)
    step_NM = np.concatenate([ears_NEM.reshape(n, -1), cues_N2], 1)
    unit_M = np.repeat([0, 1, 2], [HIT + DISTRACTORS, HIT + DISTRACTORS, 2])
    return clip_set(NAME, split, step_NM, unit_M, first_N ^ asks_last_N, ["left", "right"])
