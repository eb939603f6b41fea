"""How real are simulated recordings? A linear model learns from them and is tested on real ones.

    python benchmarks/saccade.py RECORDINGS IMAGES [--n 2000] [--seeds 0 1 2]

RECORDINGS is a folder of N-MNIST, IMAGES the MNIST images (MNIST's files or an .npz). The model,
softmax regression, sees the counts of 9 time bins x 2 polarities x 34 x 34 pixels of `n` simulated
recordings; no image of a real recording is among them. Appends one JSON line per seed. A second
figure, `wrong_polarity`, is the same model's accuracy when the real polarities are swapped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from common import RESULTS, append

from snndelay.data import Events, open_images, open_recordings
from snndelay.data.vision.frames import frames
from snndelay.data.vision.saccade import RECIPE, saccade
from snndelay.data.vision.scanned_digits import SIZE
from snndelay.kernels.profile.measure import commit

BINS, DURATION_US = 9, 315_000
MOST = 2  # counts above say little more: the sensor's threshold, not the digit


def features(events: Events) -> np.ndarray:
    """Counts, at most MOST each, float32 (9 * 2 * 34 * 34,)."""
    x_TPHW = frames(events, SIZE, "time_bins", BINS, duration_us=DURATION_US)
    return np.minimum(x_TPHW, MOST).ravel()


def main() -> None:
    from sklearn.linear_model import LogisticRegression

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--n", type=int, default=2000, help="simulated recordings to learn from")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "saccade.jsonl")
    options = parser.parse_args()
    recordings = open_recordings("nmnist", str(options.recordings))
    images = open_images(options.images)
    real = [recordings[i][0] for i in range(len(recordings))]
    real_NF = np.stack([features(events) for events in real])
    swapped_NF = real_NF.reshape(-1, BINS, 2, *SIZE)[:, :, ::-1].reshape(real_NF.shape)
    shown = set(recordings.identities)
    others = [i for i, identity in enumerate(images.identities) if identity not in shown]
    made_at = commit()
    for seed in options.seeds:
        chosen = np.random.default_rng(seed).choice(others, options.n, replace=False)
        saccade(images.image(chosen[0]), 0)  # compiles
        start = time.perf_counter()
        simulated = [saccade(images.image(i), 100_000 * seed + i) for i in chosen]
        ms = (time.perf_counter() - start) * 1000 / options.n
        model = LogisticRegression(C=0.01, max_iter=100, tol=1e-3)
        model.fit(np.stack([features(events) for events in simulated]), images.labels[chosen])
        line = {
            "recipe": RECIPE,
            "n_simulated": options.n,
            "n_real": len(real),
            "seed": seed,
            "accuracy": round(model.score(real_NF, recordings.labels), 4),
            "wrong_polarity": round(model.score(swapped_NF, recordings.labels), 4),
            "events_simulated": round(np.mean([len(events) for events in simulated])),
            "events_real": round(np.mean([len(events) for events in real])),
            "ms_per_recording": round(ms, 1),
            "commit": made_at,
        }
        append(line, options.out)
        print(line, flush=True)


if __name__ == "__main__":
    main()
