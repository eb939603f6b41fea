"""Whole steps of the published network against what it was published with: Dcls1d, BatchNorm1d,
SpikingJelly's LIFNode and Dropout, with the same weights in one process, alternating.

    python benchmarks/step.py [--only shd ssc 2ms] [--rounds 7] [--threads N] [--backend auto]
    python benchmarks/step.py --steps-equal    50 losses of a fast backend against the reference

A training step is forward, loss, backward, both Adam steps and the clamp; evaluation is without
gradients, delays rounded. Before anything is timed both networks must give the same loss. One JSON
line per measurement is appended to benchmarks/results/step.jsonl.

Legend: T time steps, B batch, C input channels, N neurons or classes.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import RESULTS, append
from common_gpu import exact
from torch import Tensor, nn

from snndelay import DelayNet, build_model, set_sigma
from snndelay.kernels import BACKENDS, Synapses
from snndelay.kernels.profile import peers
from snndelay.kernels.profile.measure import clock, peak_bytes, saved_bytes, where
from snndelay.losses import softmax_sum
from snndelay.runs.machine import keep_freed_memory
from snndelay.turning import SIGMA_END

SAME = 1e-4  # largest relative difference of two losses that count as equal
# on CUDA sums of other orders meet in every layer, and a few spikes of millions differ
SAME_ON = {"cpu": SAME, "cuda": 1e-3}


@dataclass(frozen=True)
class Case:
    """A network and the size of its batches; counts: mean input per channel and step."""

    preset: str
    T: int
    batch: dict[str, int]
    counts: float
    settings: dict


CASES = {
    "shd": Case("shd", 100, {"cpu": 64, "cuda": 256}, 0.5, {}),
    "ssc": Case("ssc", 100, {"cpu": 16, "cuda": 128}, 0.5, {}),
    "2ms": Case("shd", 500, {"cpu": 16, "cuda": 64}, 0.1, {"max_delay_steps": 125}),
}


class PeerNet(nn.Module):
    """The published composition with the weights of a DelayNet; (T, B, C) -> (T, B, N)."""

    def __init__(self, net: DelayNet):
        super().__init__()
        tau = net.readout.tau
        self.delays = nn.ModuleList(
            peers.dcls(Synapses(a.weight, a.position, a.sigma, a.max_delay_steps))
            for a in net.delay_layers()
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(b.norm.num_features) for b in net.blocks)
        self.neurons = nn.ModuleList(peers.lif_node(tau) for _ in net.blocks)
        self.dropouts = nn.ModuleList(peers.held_dropout(b.dropout.p) for b in net.blocks)
        self.readout = peers.lif_node(tau, v_threshold=1e9, store_v_seq=True)

    def forward(self, x_TBC: Tensor) -> Tensor:
        *hidden, last = self.delays
        for module in (*self.neurons, *self.dropouts, self.readout):
            module.reset()
        for layer in zip(hidden, self.norms, self.neurons, self.dropouts, strict=True):
            delay, norm, neuron, dropout = layer
            current = peers.delays(delay, x_TBC)
            # on rows of neurons BatchNorm1d is several times faster than on (B, N, T)
            x_TBC = dropout(neuron(norm(current.flatten(0, 1)).view_as(current)))
        self.readout(peers.delays(last, x_TBC))
        return self.readout.v_seq

    @torch.no_grad()
    def round_(self) -> "PeerNet":
        """Delays as the published code evaluates them: rounded, kernel max with width 0."""
        for delay in self.delays:
            delay.clamp_parameters()
            delay.P.round_()
            delay.SIG.zero_()
            delay.version = delay.DCK.version = "max"
        return self

    def clamp_(self) -> None:
        """Positions back onto the window."""
        for delay in self.delays:
            delay.clamp_parameters()


def evaluating(net: DelayNet, rival: PeerNet | None = None) -> None:
    """Both networks on rounded delays."""
    set_sigma(net, SIGMA_END)  # of no effect on rounded delays, but wide ones warn
    net.eval()
    if rival is not None:
        rival.round_().eval()


def peer_path(device: torch.device) -> str:
    """What the peer is made of; asked after a run."""
    return f"Dcls1d, BatchNorm1d, LIFNode ({peers.lif_path(device.type)})"


def sizes(net: DelayNet) -> tuple[int, int]:
    """Input channels and classes."""
    first, *_, last = net.delay_layers()
    return first.weight.shape[2], last.weight.shape[1]


def optimizers(net: nn.Module) -> list[torch.optim.Optimizer]:
    """Both Adams of the published recipe, for either network; on CUDA torch's fastest, which a
    graph can hold.
    """
    weights = [p for n, p in net.named_parameters() if "delay" in n and n.endswith("weight")]
    positions = [p for n, p in net.named_parameters() if n.endswith((".P", ".position"))]
    taken = {id(p) for p in weights + positions}
    others = [p for p in net.parameters() if id(p) not in taken and p.requires_grad]
    groups = [{"params": weights, "weight_decay": 1e-5}, {"params": others}]
    device = weights[0].device

    def adam(groups: list, lr: float) -> torch.optim.Adam:
        if device.type != "cuda":
            return torch.optim.Adam(groups, lr=lr)
        rate = torch.tensor(lr, device=device)
        return torch.optim.Adam(groups, lr=rate, fused=True, capturable=True)

    return [adam(groups, 1e-3), adam(positions, 0.1)]


def train_step(net: nn.Module, adams: list, x_TBC: Tensor, label_B: Tensor) -> Tensor:
    """Forward, loss, backward, both Adam steps, clamp; returns the loss."""
    for adam in adams:
        adam.zero_grad(set_to_none=True)
    loss = softmax_sum(net(x_TBC), label_B)
    loss.backward()
    for adam in adams:
        adam.step()
    net.clamp_()
    return loss.detach()


def network(case: Case, backend: str, device: torch.device, **settings) -> DelayNet:
    """Our network, the same weights every time."""
    torch.manual_seed(0)
    settings = case.settings | {"padding": "causal"} | settings
    return build_model(case.preset, backend=backend, **settings).to(device)


def pair(case: Case, backend: str, device: torch.device, **settings) -> tuple[DelayNet, PeerNet]:
    """Our network and the peer with the same weights."""
    net = network(case, backend, device, **settings)
    return net, PeerNet(net).to(device)


def about(name: str, case: Case, net: DelayNet, x_TBC: Tensor) -> dict:
    """Sizes of a case, for a result line."""
    first = net.delay_layers()[0]
    _, N, C = first.weight.shape
    shape = {"T": case.T, "B": x_TBC.shape[1], "C": C, "N": N, "layers": len(net.blocks)}
    return {"case": name, **shape, "K": first.max_delay_steps}


def clips(case: Case, net: DelayNet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random counts and labels for a network."""
    g = torch.Generator().manual_seed(0)
    B = case.batch[device.type]
    n_in, n_out = sizes(net)
    rate = torch.full((case.T, B, n_in), case.counts)
    label = torch.randint(n_out, (B,), generator=g)
    return torch.poisson(rate, generator=g).to(device), label.to(device)


def difference(case: Case, backend: str, x_TBC: Tensor, label_B: Tensor) -> dict[str, float]:
    """Relative difference of the two losses, training (without dropout) and evaluation.

    Exits with a sentence if they are not equal: then a comparison would mean nothing.
    """
    net, rival = pair(case, backend, x_TBC.device, dropout=0.0)
    found = {}
    # TF32, cuDNN's default, is for the timing: its error would move spikes
    with torch.no_grad(), exact():
        for what in ("training step", "evaluation"):
            if what == "evaluation":
                evaluating(net, rival)
            ours, theirs = (softmax_sum(n(x_TBC), label_B).item() for n in (net, rival))
            found[what] = abs(ours - theirs) / abs(theirs)
            if not found[what] <= SAME_ON[x_TBC.device.type]:
                sys.exit(f"{what}: our loss is {ours}, the peer's {theirs}: not the same network")
    return found


def compare(name: str, backend: str, rounds: int, device: torch.device) -> Iterator[dict]:
    """Yields a result line for the training step of a case, and one for its evaluation."""
    case = CASES[name]
    net, rival = pair(case, backend, device)
    x_TBC, label_B = clips(case, net, device)
    same = difference(case, backend, x_TBC, label_B)
    nets = {"ours": net, "peer": rival}
    adams = {who: optimizers(n) for who, n in nets.items()}

    def train(who: str) -> Tensor:
        return train_step(nets[who], adams[who], x_TBC, label_B)

    @torch.no_grad()
    def evaluate(who: str) -> Tensor:
        return nets[who](x_TBC)

    shown = about(name, case, net, x_TBC) | {"backend": backend, "rounds": rounds}
    shown["input_density"] = round((x_TBC > 0).float().mean().item(), 3)
    for what, run in (("training step", train), ("evaluation", evaluate)):
        if what == "evaluation":
            evaluating(net, rival)
        measured = _measure(run, rounds, device)
        for who, n in nets.items():
            parameters = (*n.parameters(), *n.buffers())
            kept = saved_bytes(lambda n=n: n(x_TBC), parameters) if run is train else 0
            measured[who]["saved_bytes"] = kept
        ratio = measured["peer"]["seconds"] / measured["ours"]["seconds"]
        line = {"what": what, **shown, **measured, "peer_over_ours": ratio}
        yield line | {"peer_path": peer_path(device), "loss_difference": same[what]}


def _measure(run: Callable[[str], Tensor], rounds: int, device: torch.device) -> dict[str, dict]:
    """Median seconds and peak bytes of ``run("ours")`` and ``run("peer")``, alternating."""
    times, peaks = {"ours": [], "peer": []}, {}
    for who in times:
        run(who)  # compiles and warms up
        peaks[who] = peak_bytes(partial(run, who), device)
    for _ in range(rounds):
        for who, column in times.items():
            column.append(clock(partial(run, who), device)[1])
    return {
        who: {"seconds": statistics.median(column), "peak_bytes": peaks[who]}
        for who, column in times.items()
    }


def text(line: dict) -> str:
    """A result line as a sentence."""
    ours, theirs = line["ours"], line["peer"]
    saved = ""
    if line["what"] == "training step":
        mine, other = (w["saved_bytes"] / 1e6 for w in (ours, theirs))
        saved = f"; kept for backward {mine:.1f} MB, peer {other:.1f} MB"
    return (
        f"{line['case']:4} {line['what']:14} {ours['seconds'] * 1e3:8.1f} ms, "
        f"peer {theirs['seconds'] * 1e3:8.1f} ms: {line['peer_over_ours']:.2f} times as fast{saved}"
    )


def loss_curve(
    backend: str, device: torch.device, steps: int = 50, seed: int = 0, **settings
) -> list[float]:
    """Losses of the first training steps, the same clips and dropout for every backend.

    Four random clips of 50 steps each time: few enough that hardly ever a potential lies within
    rounding of the threshold. One spike that differs, and the curves part for good.
    """
    torch.manual_seed(seed)
    net = build_model("shd", backend=backend, **settings).to(device)
    adams = optimizers(net)
    g = torch.Generator().manual_seed(seed)
    losses = []
    n_in, n_out = sizes(net)
    for step in range(steps):
        x_TBC = torch.poisson(torch.full((50, 4, n_in), 0.3), generator=g).to(device)
        label_B = torch.randint(n_out, (4,), generator=g).to(device)
        torch.manual_seed(step)  # dropout
        losses.append(train_step(net, adams, x_TBC, label_B).item())
    return losses


def curves_agree(backend: str, device: torch.device, **options) -> float:
    """Largest relative difference between the loss curves of a backend and of the reference."""
    curves = (loss_curve(b, device, **options) for b in (backend, "reference"))
    return max(abs(a - b) / abs(b) for a, b in zip(*curves, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--only", nargs="+", choices=CASES, default=[*CASES], help="Run only these cases.")
    add("--rounds", type=int, default=7, help="Take medians of this many alternating rounds.")
    add("--threads", type=int, help="Let both use this many CPU threads.")
    add("--backend", choices=BACKENDS, default="auto", help="Run our ops on this backend.")
    add("--device", choices=("cpu", "cuda"), help="Run here; default: CUDA if there is one.")
    add(
        "--out",
        type=Path,
        default=RESULTS / "step.jsonl",
        help="Append JSON lines here.",
    )
    add("--steps-equal", action="store_true", help="Compare 50 losses with the reference instead.")
    add("--seed", type=int, default=0, help="Seed of those 50 steps.")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    device = torch.device(o.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if o.steps_equal:
        found = curves_agree(o.backend, device, seed=o.seed)
        print(f"50 training steps, {o.backend} against reference: losses differ by {found:.1e}")
        sys.exit(0 if found <= SAME else f"that is more than {SAME:g}")
    if why := peers.missing():
        parser.error(why)
    keep_freed_memory()  # as train.py does; the peer gains from it as well
    here = where(device)
    for name in o.only:
        for line in compare(name, o.backend, o.rounds, device):
            print(text(line), flush=True)
            append(line | here, o.out)


if __name__ == "__main__":
    main()
