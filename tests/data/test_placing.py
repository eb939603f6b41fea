"""Where sets lie, and how what the host has reaches the device."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from snndelay.data.placing import PLACES, forget, moved, on_host, one_thread, placed, taken
from snndelay.errors import ConfigError, DataError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_mapped_file_is_used_where_it_is(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12).reshape(3, 4))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    x = on_host(mapped)  # a warning would be an error here
    assert x.data_ptr() == mapped.ctypes.data and x.tolist() == mapped.tolist()
    assert all(placed(x, CPU, place) is x for place in ("auto", "host"))
    copied = placed(x, CPU, "device")
    assert torch.equal(copied, x) and copied.data_ptr() != x.data_ptr(), "it must be in memory"


def test_what_is_forgotten_is_read_again(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(2**22))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    x, before = on_host(mapped), resident()
    first = int(x.sum())
    assert resident() - before > 2**24, "nothing was read"
    forget(mapped)
    assert resident() - before < 2**24, "it is still in memory"
    assert int(x.sum()) == first == 2**21 * (2**22 - 1)
    forget(np.arange(3))  # no file: nothing to do
    forget(None)


def resident() -> int:
    """Bytes of mapped files that are in this process's memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")


def test_what_is_on_the_device_stays():
    x = torch.arange(6).view(3, 2)
    assert moved(x, CPU) is x
    assert taken(x, torch.tensor([2, 0]), CPU).tolist() == [[4, 5], [0, 1]]


@pytest.mark.parametrize(("free", "fits"), [(47, False), (48, True)])
def test_a_set_goes_to_the_device_if_half_of_what_is_free_holds_it(monkeypatch, free, fits):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    x = SimpleNamespace(nbytes=24, to=lambda device: device)
    assert placed(x, CUDA, "auto") == (CUDA if fits else x)
    assert placed(x, CUDA, "host") is x
    if fits:
        assert placed(x, CUDA, "device") == CUDA
    else:
        with pytest.raises(ConfigError, match=r"the frames take up to .* give --data-on host"):
            placed(x, CUDA, "device")


def test_another_word_is_refused():
    assert PLACES == ("auto", "host", "device")
    with pytest.raises(DataError, match="did you mean device"):
        placed(torch.zeros(1), CPU, "devise")


def test_batches_leave_the_threads_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for device, within in ((CPU, 1), (CUDA, 3)):
            with one_thread(device):
                assert torch.get_num_threads() == within
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_the_host_s_samples_reach_the_device():
    x = torch.arange(10, dtype=torch.uint8).view(5, 2)
    for place in PLACES:
        home = placed(x, CUDA, place)
        assert home.device.type == ("cpu" if place == "host" else "cuda")
        index_B = moved(torch.tensor([4, 1]), home.device)
        assert taken(home, index_B, CUDA).cpu().tolist() == [[8, 9], [2, 3]]
