"""The line that `auto` logs."""

import logging

from snndelay.kernels.dispatch import choose


def test_auto_says_why_it_passes_over_each_backend(caplog):
    with caplog.at_level(logging.INFO, "snndelay"):
        order = ("triton", "reference", "cpu", "fft")
        assert choose("delay_conv", order, "auto", "cpu", (("fft", "it is too long"),)) == (
            "reference"
        )
    (line,) = (record.getMessage() for record in caplog.records)
    assert "delay_conv on cpu runs on backend reference" in line
    for words in ("not triton: it", "not cpu: slower by the cost model", "not fft: it is too long"):
        assert words in line, line
