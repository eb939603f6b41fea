"""How exact a layer of delays is in each precision of the Triton kernels: errors of currents and
gradients against float64, and spikes that come out different. Without a GPU it runs in Triton's
interpreter, which rounds sums to nearest where tensor cores truncate them.

    python benchmarks/precision.py

One layer of the shd network, 256 x 256 with K 25, on spikes of 8 % activity: in training through
delays, BatchNorm and LIF; in evaluation on whole delays with the same normalisation. A TF32
convolution is computed in float64 from weights that are rounded to TF32, which flatters it.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from common import RESULTS, append
from torch import Tensor

if not torch.cuda.is_available():  # read once by triton and snndelay.kernels, so set before both
    os.environ["TRITON_INTERPRET"] = "1"

from snndelay.kernels import Synapses, reference
from snndelay.kernels.neurons import NeuronOptions
from snndelay.kernels.precision import PARTS
from snndelay.kernels.profile.measure import where

SIGMA, TAU = 1.0, 1.005  # steps: width of the taps while they narrow, membrane of the preset


def tf32(x: Tensor) -> Tensor:
    """Rounded to the 11 significant bits of TF32."""
    bits = x.float().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).to(x.dtype)


class Rounded(torch.autograd.Function):
    """An operand of a TF32 product."""

    @staticmethod
    def forward(ctx, a):
        return tf32(a)

    @staticmethod
    def backward(ctx, g):
        return g


class RoundedBack(torch.autograd.Function):
    """A result whose cotangent is an operand of TF32 products."""

    @staticmethod
    def forward(ctx, a):
        return a.clone()

    @staticmethod
    def backward(ctx, g):
        return tf32(g)


def layer(T: int, B: int, n: int, K: int) -> tuple[Tensor, Synapses, Tensor]:
    """Spikes, synapses and a cotangent in float32."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(T, B, n, generator=generator) < 0.08).float()
    w = (torch.rand(1, n, n, generator=generator) * 2 - 1) * (6 / n) ** 0.5
    p = (torch.rand(1, n, n, generator=generator) - 0.5) * (K - 1)
    dy = torch.randn(T, B, n, generator=generator)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, w, p, dy = (a.to(device) for a in (x, w, p, dy))
    return x, Synapses(w, p, torch.tensor(SIGMA, device=device), K), dy


def spikes(y: Tensor) -> Tensor:
    """Spikes of normalised currents, in float64."""
    scale, shift = reference.fold_norm(*reference.batch_statistics(y.double()), None, None, 1e-5)
    state, constants = (torch.zeros_like(scale).expand(y.shape[1:]),), {"tau": TAU}
    return reference.lif(y.double(), state, constants, "lif", NeuronOptions(), (scale, shift))[0]


def gradients(run: Callable, x: Tensor, s: Synapses, dy: Tensor) -> tuple[Tensor, ...]:
    """Currents, and the gradients of x, weights and positions."""
    inputs = [a.detach().requires_grad_() for a in (x, s.weight, s.position)]
    y = run(inputs[0], s._replace(weight=inputs[1], position=inputs[2]))
    return y.detach(), *torch.autograd.grad(y, inputs, dy.to(y))


def contenders(K: int) -> Iterator[tuple[str, Callable, Callable]]:
    """Name, convolution of training (x, synapses), currents of evaluation (x, w, delay)."""
    from snndelay.kernels.triton import delay, delay_one_hot

    for precision in PARTS:
        yield (
            precision,
            lambda x, s, p=precision: delay.delay_linear(x, s, 0, p),
            lambda x, w, d, p=precision: delay_one_hot.delay_integer(x, w, d, K, 0, p),
        )

    def convolution(x, s):
        doubled = s._replace(**{k: getattr(s, k).double() for k in ("weight", "position", "sigma")})
        return RoundedBack.apply(
            reference.delay_conv(x.double(), Rounded.apply(reference.delay_taps(doubled)))
        )

    yield (
        "TF32 convolution",
        convolution,
        lambda x, w, d: reference.delay_integer(x.double(), tf32(w).double(), d, K),
    )


def error(got: Tensor, want: Tensor) -> float:
    """Relative L2."""
    return float((got.double() - want).norm() / want.norm())


def measure(T: int, B: int, n: int, K: int) -> Iterator[dict]:
    """A line for each precision."""
    x, s, dy = layer(T, B, n, K)
    exact = s._replace(**{k: getattr(s, k).double() for k in ("weight", "position", "sigma")})
    wants = gradients(reference.delay_linear, x.double(), exact, dy)
    delay = (K - 1 - K // 2 - s.position.round()).int()
    whole = reference.delay_integer(x.double(), s.weight.double(), delay, K)
    fired, fired_whole = spikes(wants[0]), spikes(whole)
    for name, train, evaluate in contenders(K):
        got = gradients(train, x, s, dy)
        names = ("error", "error_dx", "error_dweight", "error_dposition")
        line = dict(precision=name, T=T, B=B, n=n, K=K, neuron_steps=fired.numel())
        line |= {k: error(a, b) for k, a, b in zip(names, got, wants, strict=True)}
        line["flipped"] = int((spikes(got[0]) != fired).sum())
        y = evaluate(x, s.weight, delay)
        line |= dict(evaluation_error=error(y, whole))
        line["evaluation_flipped"] = int((spikes(y) != fired_whole).sum())
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=100, help="T.")
    parser.add_argument("--batch", type=int, default=4, help="B.")
    parser.add_argument("--neurons", type=int, default=256, help="N, and as many channels.")
    parser.add_argument("--taps", type=int, default=25, help="K.")
    parser.add_argument("--out", type=Path, default=RESULTS / "precision.jsonl")
    o = parser.parse_args()
    here = where(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for line in measure(o.steps, o.batch, o.neurons, o.taps):
        print(line, flush=True)
        append(line | here, o.out)


if __name__ == "__main__":
    main()
