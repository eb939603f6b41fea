"""Time constants of activity: those of processes whose time constants are known."""

import numpy as np
import pytest
import torch

from snndelay.tau_net import TAUS, autocorrelation, decay_times, effective_timescales

STEP = TAUS[1] / TAUS[0]


class Process:
    """Not a network: activity of leaky noise, one time constant per neuron; the input is ignored
    but for its shape."""

    def __init__(self, taus: list[float]):
        self.keep_N = torch.exp(-1 / torch.tensor(taus))

    def activity(self, x_TBC):
        r_BN, rates = torch.zeros(x_TBC.shape[1], len(self.keep_N)), []
        for _ in x_TBC:
            r_BN = self.keep_N * r_BN + torch.randn(r_BN.shape)
            rates.append(r_BN)
        return None, [torch.stack(rates)]


def test_the_time_constants_of_known_processes():
    taus = [1.0, 2.0, 5.0, 10.0]
    found = effective_timescales(Process(taus), torch.zeros(2100, 64, 1))
    assert np.allclose(found, taus, rtol=0.1), found


@pytest.mark.parametrize("size", [1.0, 0.4])
def test_exact_decays_are_found_to_the_grid(size):
    k_L, taus = np.arange(31), [0.7, 3.0, 20.0]
    c_LN = np.stack([size * np.exp(-k_L / tau) for tau in taus], 1)
    found = decay_times(c_LN)
    assert (np.abs(np.log(found / taus)) <= np.log(STEP)).all(), found


def test_of_two_exponentials_the_slower_one():
    k_L = np.arange(31)
    mixed = [(0.5, 2.0, 0.5, 10.0), (0.3, 1.0, 0.4, 15.0), (0.6, 0.1, 0.4, 8.0)]
    c_LN = np.stack([a * np.exp(-k_L / s) + b * np.exp(-k_L / t) for a, s, b, t in mixed], 1)
    assert np.allclose(decay_times(c_LN), [t for *_, t in mixed], rtol=0.2), decay_times(c_LN)


def test_the_autocorrelation_is_that_of_numpy():
    r_TBN = torch.randn(40, 3, 2).cumsum(0) + 5
    got = autocorrelation(r_TBN, 4)
    for n in range(2):
        lags = np.zeros(5)
        for b in range(3):
            r = r_TBN[:, b, n].double().numpy()
            r = r - r.mean()
            lags += [r @ r / 40, *(r[:-k] @ r[k:] / (40 - k) for k in range(1, 5))]
        assert np.allclose(got[:, n], lags / lags[0]), got[:, n]


def test_activity_that_never_changes_has_none():
    r_TBN = torch.randn(300, 4, 3)
    r_TBN[:, :, 1] = 1000.3
    r_TBN[:, :, 2] = 0
    assert np.isnan(decay_times(autocorrelation(r_TBN, 10))).tolist() == [False, True, True]


@pytest.mark.parametrize(("steps", "lags"), [(130, 30), (2000, 3)])
def test_too_few_steps_or_lags_are_refused(steps, lags):
    with pytest.raises(ValueError, match="are too few"):
        effective_timescales(Process([1.0]), torch.zeros(steps, 1, 1), lags)
