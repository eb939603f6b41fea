"""Memory tasks: labels by an independent loop, lengths, seeds, chance."""

import numpy as np
import pytest
import torch

from snndelay.data.catalog import DATASETS, open_task
from snndelay.data.tasks.memory import SHORTEST
from snndelay.errors import ConfigError, DataError

TASKS = [name for name, entry in DATASETS.items() if entry.kind == "memory"]
LONGEST = {"n-parity": 1.5, "n-dms": 3}  # bits beyond the shortest, times N


def label(task: str, bits: list[int], n: int) -> int:
    """The label of one trial, bit by bit."""
    if task == "n-parity":
        odd = False
        for bit in bits[len(bits) - n :]:
            odd = odd != bool(bit)
        return int(odd)
    return int(bits[len(bits) - n] == bits[len(bits) - 1])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("ns", [[2], [7], [2, 3, 5, 11]])
def test_labels_are_those_of_a_loop(name, ns):
    task = open_task(name)
    for step in range(5):
        x, label_HB = task.train_batch(ns, 17, 3, 1, step)
        assert x.shape == (len(x), 17, 1) and x.dtype == torch.float32
        assert label_HB.shape == (len(ns), 17) and label_HB.dtype == torch.int64
        assert set(x.unique().tolist()) <= {0.0, 1.0}
        for b in range(17):
            bits = x[:, b, 0].int().tolist()
            want = [label(name, bits, n) for n in ns]
            assert label_HB[:, b].tolist() == want, f"trial {b} of step {step}: {bits}"


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("n", [2, 9])
def test_lengths_are_drawn_from_their_whole_range(name, n):
    task, first = open_task(name), n + SHORTEST
    found = {len(task.train_batch([2, n], 1, 0, 0, step).x) for step in range(400)}
    assert found == set(range(first, first + int(LONGEST[name] * n) + 1)), sorted(found)


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_is_a_function_of_its_numbers(name):
    task = open_task(name)
    one, again = (task.train_batch([4], 8, 1, 2, 3) for _ in range(2))
    assert torch.equal(one.x, again.x) and torch.equal(one.label_HB, again.label_HB)
    others = [task.train_batch([4], 8, *key) for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4))]
    others += [task.valid_batch([4], 8, 1, 2, 3), task.test_batch(4, 8, 1, 3)]
    others += [task.test_batch(4, 8, 1, 4), task.test_batch(5, 8, 1, 3)]
    for i, other in enumerate(others):
        assert one.x.shape != other.x.shape or not torch.equal(one.x, other.x), i
    more = task.train_batch([2, 3, 4], 8, 1, 2, 3)
    assert torch.equal(more.x, one.x), "the largest N decides what is drawn"
    assert torch.equal(more.label_HB[2:], one.label_HB)


def always(task, n: int, draw) -> float:
    """Accuracy of whoever always says 0."""
    return float(np.mean([(draw(step).label_HB == 0).double().mean() for step in range(1000)]))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_constant_answer_is_right_in_half_of_the_balanced_trials(name, n):
    task = open_task(name)
    for draw in (
        lambda step: task.test_batch(n, 64, 0, step),
        lambda step: task.valid_batch([n], 64, 0, 0, step),
    ):
        accuracy, error = always(task, n, draw), 0.5 / np.sqrt(64_000)
        assert abs(accuracy - 0.5) < 5 * error, f"{accuracy} with N = {n}"


def test_parity_in_training_mixes_probabilities():
    task = open_task("n-parity")
    means = [task.train_batch([5], 64, 0, 0, step).x.mean().item() for step in range(300)]
    assert min(means) < 0.1 and max(means) > 0.9 and abs(np.mean(means) - 0.5) < 0.07
    for n, chance in ((4, 0.6), (5, 0.5)):  # 1/2 + 1/(2N + 2) for an even N
        accuracy = always(task, n, lambda step, n=n: task.train_batch([n], 64, 0, 0, step))
        assert abs(accuracy - chance) < 0.035, f"{accuracy} with N = {n}"
    means = [open_task("n-dms").train_batch([5], 64, 0, 0, step).x.mean() for step in range(50)]
    assert max(abs(float(mean) - 0.5) for mean in means) < 0.1, "n-dms has balanced bits"


def test_what_is_no_task_or_no_n_is_refused():
    with pytest.raises(DataError, match="no memory task 'n-party': did you mean n-parity"):
        open_task("n-party")
    with pytest.raises(ConfigError, match="n-dms is of at least 2 bits, not of 1"):
        open_task("n-dms").train_batch([1, 4], 2, 0, 0, 0)
