"""Training is the same to the last bit in every process, and the same mathematics as when
golden_losses.json was written (`python tests/snndelay/test_golden.py --write`).
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden_losses.json"
STEPS = 50


def losses(backend: str) -> list[float]:
    """Losses of 50 training steps of a small delay network on fixed random clips."""
    import torch

    from snndelay import build_model
    from snndelay.losses import softmax_sum

    torch.manual_seed(0)
    net = build_model("shd", n_in=20, n_hidden=24, n_out=5, max_delay_steps=9, backend=backend)
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    found = []
    for _ in range(STEPS):
        x_TBC, label_B = torch.poisson(torch.full((30, 4, 20), 0.3)), torch.randint(5, (4,))
        loss = softmax_sum(net(x_TBC), label_B)
        adam.zero_grad()
        loss.backward()
        adam.step()
        net.clamp_()
        found.append(loss.item())
    return found


BACKENDS = ("reference", "cpu")


@pytest.fixture(scope="module")
def processes() -> list[dict[str, list[float]]]:
    """Losses by backend, of two processes."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    run = partial(subprocess.run, env=env, capture_output=True, check=True)
    return [json.loads(run([sys.executable, __file__]).stdout) for _ in range(2)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_fifty_losses(processes, backend):
    first, again = (found[backend] for found in processes)
    assert first == again, "two processes, two results"
    # another processor adds in another order, so the file holds to rounding; a spike that moves
    # with it would part the curves for good, hence the small network
    for i, (a, b) in enumerate(zip(first, json.loads(GOLDEN.read_text()), strict=True)):
        assert abs(a - b) <= 1e-4 * abs(b), f"step {i}: loss {a} instead of {b}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(losses("reference"), indent=0) + "\n")
    else:
        print(json.dumps({backend: losses(backend) for backend in BACKENDS}))
