"""The pictures of docs/gallery.md, each from seconds to a few minutes on two cores.

    python benchmarks/gallery.py NAME [NAME ...]      writes docs/gallery/NAME.png

Nothing in them is drawn by hand: every curve is an output of the package, on the sets that come
with it. Pictures of a run train it first (runs/gallery-PRESET, kept for the next picture).

Legend: T time steps, B batch, C input channels, N neurons, K delay taps.
"""

import argparse
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from snndelay import LIF, DelayLinear
from snndelay.kernels import Synapses, delay_taps
from snndelay.learning import clamp_, set_sigma, sigma_at

ROOT = Path(__file__).parent.parent
PICTURES_AT = ROOT / "docs" / "gallery"
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = (  # Okabe and Ito (2008)
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
)
GREY = "#888888"
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "legend.frameon": False,
    }
)


def save(figure: Figure, path: Path) -> None:
    """A PNG of 256 colours, which is a third of the size."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=130)
    plt.close(figure)
    small(Image.open(memory), path)


def small(image: Image.Image, path: Path) -> None:
    """Writes an image with a palette of its own."""
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


# -- what a delay does ---


def two_orders() -> tuple[Tensor, list[str]]:
    """Two inputs with the same spikes in two orders, (T, 2, C): first to last channel, and back."""
    times = torch.tensor([3, 9, 15, 21])
    x_BCT = F.one_hot(torch.stack([times, times.flip(0)]), 50).float()
    return x_BCT.permute(2, 0, 1), ["the order it was trained on", "the same spikes, reversed"]


def coincidence_layer(x_TBC: Tensor) -> DelayLinear:
    """Four synapses of equal weight whose delays are trained: the current that the first input
    makes shall have a high peak, that of the second a low one."""
    torch.manual_seed(3)
    layer = DelayLinear(4, 1, max_delay_steps=25)
    layer.weight.data.fill_(0.35)
    layer.weight.requires_grad_(False)
    adam = torch.optim.Adam([layer.position], lr=0.2)
    for epoch in range(200):
        set_sigma(layer, sigma_at(epoch, 12, 0.23, 150))
        peak_B = torch.logsumexp(20 * layer(x_TBC)[..., 0], 0) / 20
        adam.zero_grad()
        (peak_B[1] - peak_B[0]).backward()
        adam.step()
        clamp_(layer)
    return layer.eval()


@torch.no_grad()
def coincidence(path: Path) -> None:
    """Same spikes, two orders: trained delays bring those of one order together."""
    x_TBC, names = two_orders()
    with torch.enable_grad():
        layer = coincidence_layer(x_TBC)
    colours, time = [BLUE, GREEN, ORANGE, PURPLE], np.arange(len(x_TBC))
    delay_C = layer.delay_steps[0, 0].round().int()
    current_TBN = layer(x_TBC)
    spikes_TBN = LIF(tau=4.0)(current_TBN)
    v_TBN = potential(current_TBN, 4.0)
    figure, axes = plt.subplots(
        3, 2, figsize=(9.5, 5.2), layout="constrained", sharex=True, sharey="row",
        height_ratios=(1, 1, 1.5),
    )  # fmt: skip
    for b, name in enumerate(names):
        arrive = [np.flatnonzero(x_TBC[:, b, c]) for c in range(4)]
        late = [t + int(d) for t, d in zip(arrive, delay_C, strict=True)]
        axes[0, b].eventplot(arrive, colors=colours, linelengths=0.7, linewidths=3)
        axes[1, b].eventplot(late, colors=colours, linelengths=0.7, linewidths=3)
        axes[0, b].set_title(name)
        ax = axes[2, b]
        ax.plot(time, v_TBN[:, b, 0], color="black", lw=1.6)
        ax.axhline(1.0, color=GREY, ls="--", lw=1)
        for t in np.flatnonzero(spikes_TBN[:, b, 0]):
            ax.annotate(
                "spike", (t, 1.0), (t + 4, 1.22), color=ORANGE, va="center", fontweight="bold",
                arrowprops={"arrowstyle": "-|>", "color": ORANGE},
            )  # fmt: skip
        ax.set(xlabel="time (steps)", ylim=(-0.05, 1.6))
    for ax, label in zip(axes[:, 0], ("input", "after the delays", "potential"), strict=True):
        ax.set_ylabel(label)
    for ax in axes[:2].flat:
        ax.set(yticks=range(4), yticklabels=[f"ch {c}" for c in range(4)], ylim=(-0.6, 3.6))
    axes[2, 1].text(49, 1.04, "threshold", color=GREY, ha="right", fontsize=9)
    axes[1, 1].set_title(
        "trained delays: " + ", ".join(str(int(d)) for d in delay_C) + " steps", fontsize=9,
        color=GREY, loc="right",
    )  # fmt: skip
    save(figure, path)


def potential(x_TBN: Tensor, tau: float) -> Tensor:
    """Membrane potential after charging and before the reset, (T, B, N), of a LIF."""
    layer, state, trace = LIF(tau=tau), None, []
    for x_1BN in x_TBN.split(1):
        v = torch.zeros_like(x_1BN[0]) if state is None else state[0]
        trace.append((1 - 1 / tau) * v + x_1BN[0])
        _, state = layer.scan(x_1BN, state)
    return torch.stack(trace)


def kernel(path: Path) -> None:
    """Taps of one synapse while its width shrinks, and the one tap of evaluation."""
    K, position = 25, 4.3
    widths = [12.0, 6.0, 3.0, 1.5, 0.23]
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained", width_ratios=(2, 1))
    colours = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(widths)))
    delay = np.arange(K - 1, -1, -1)
    one = torch.ones(1, 1, 1)
    for sigma, colour in zip(widths, colours, strict=True):
        k_K = delay_taps(Synapses(one, one * position, torch.tensor(sigma), K))[0, 0]
        axes[0].plot(delay, k_K, "o-", ms=3.5, color=colour, label=f"SIG {sigma:g}")
    exact = K - 1 - (K // 2 + round(position))
    axes[0].bar(exact, 1.0, width=0.7, color=ORANGE, alpha=0.35, label="evaluation: one tap")
    axes[0].set(xlabel="delay (steps)", ylabel="share of the weight", xlim=(-0.7, K - 0.3))
    axes[0].set_title(f"one synapse, K = {K}, position P = {position}")
    axes[0].legend(title="width, start to end")
    epochs = np.arange(150)
    axes[1].plot(epochs, [sigma_at(e, 12, 0.23, 37) for e in epochs], color=BLUE)
    axes[1].set(xlabel="epoch", ylabel="SIG (steps)", yscale="log", title="schedule of preset shd")
    axes[1].grid(alpha=0.25)
    save(figure, path)


# -- data ---


def raster(path: Path) -> None:
    """A spoken digit as events, and the frames that the network sees."""
    from snndelay.data import open_clips
    from snndelay.data.audio.frames import frames

    clips = open_clips("spoken-digits", split="test")
    i = int(np.flatnonzero(clips.labels == 7)[0])
    events, label, _ = clips[i]
    x_TC = frames(events, dt_us=10_000, units_per_channel=5, n_units=700)
    figure, axes = plt.subplots(
        2, 1, figsize=(9.5, 6), layout="constrained", sharex=True, height_ratios=(1.15, 1)
    )
    axes[0].scatter(events.t_us / 1000, events.x, s=1.2, color=BLUE, lw=0)
    axes[0].set(ylabel="unit of the cochlea", ylim=(0, 700))
    axes[0].set_title(f"{len(events):,} events of the digit {clips.classes[label]!r}")
    end = len(x_TC) * 10
    image = axes[1].imshow(
        x_TC.T, origin="lower", aspect="auto", cmap="magma_r", extent=(0, end, 0, x_TC.shape[1]),
        interpolation="nearest",
    )  # fmt: skip
    axes[1].set(xlabel="time (ms)", ylabel="input channel", xlim=(0, end))
    axes[1].set_title("frames of 10 ms, 5 units summed into a channel: counts are conserved")
    figure.colorbar(image, ax=axes[1], label="events per frame", pad=0.01)
    save(figure, path)


def saccade(path: Path) -> None:
    """An image, its simulated recording in space and time, and six frames of it."""
    from sklearn.datasets import load_digits

    from snndelay.data.vision.saccade import saccade as simulate

    image_HW = (load_digits().images[13] / 16).astype(np.float32)
    events = simulate(image_HW, seed=0)
    colours = np.array([BLUE, ORANGE])[events.p]
    figure = plt.figure(figsize=(10, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 6, height_ratios=(2.3, 1), width_ratios=[1] * 6)
    ax = figure.add_subplot(grid[0, :2])
    ax.imshow(image_HW, cmap="gray")
    ax.set(xticks=[], yticks=[], title="static image")
    ax = figure.add_subplot(grid[0, 2:], projection="3d")
    ax.scatter(events.t_us / 1000, events.x, events.y, s=3, c=colours, lw=0, depthshade=False)
    ax.set(xlabel="time (ms)", ylabel="column", zlabel="row", zlim=(34, 0), ylim=(0, 34))
    ax.set_title(f"three movements of the camera: {len(events):,} events", y=1.0)
    ax.set(yticks=(0, 15, 30), zticks=(0, 10, 20, 30))
    ax.set_box_aspect((2.6, 1, 1), zoom=1.2)
    ax.view_init(elev=20, azim=-62)
    edges = np.linspace(0, 315_000, 7)
    for step in range(6):
        inside = (events.t_us >= edges[step]) & (events.t_us < edges[step + 1])
        ax = figure.add_subplot(grid[1, step])
        for p, colour in enumerate((BLUE, ORANGE)):
            e = events.select(np.flatnonzero(inside & (events.p == p)))
            ax.scatter(e.x, e.y, s=2.5, color=colour, alpha=0.6, lw=0)
        ax.set(xlim=(0, 34), ylim=(34, 0), xticks=[], yticks=[], aspect="equal")
        ax.spines[["top", "right"]].set_visible(True)
        ax.set_title(f"{edges[step] / 1000:.0f} to {edges[step + 1] / 1000:.0f} ms", fontsize=9)
    handles = [plt.Line2D([], [], marker="o", ls="", ms=4, color=c) for c in (BLUE, ORANGE)]
    figure.legend(handles, ["polarity 0", "polarity 1"], loc="upper right", fontsize=9)
    save(figure, path)


# -- neurons ---


@torch.no_grad()
def neurons(path: Path) -> None:
    """Potential and spikes of LIF and adLIF under the same steps of current."""
    T = 250
    x_T = torch.zeros(T)
    x_T[30:110], x_T[150:220] = 1.0, 1.6
    x_TBN = x_T.view(T, 1, 1)
    shown = {
        "LIF": (LIF(1, tau=8.0, decay_input=True), BLUE),
        "adLIF": (LIF(1, neuron="adlif", dt_ms=4.0), ORANGE),
    }
    shown["adLIF"][0].set_(tau_u=8.0, tau_w=60.0)
    shown["adLIF"][0].a.fill_(0.02), shown["adLIF"][0].b.fill_(0.05)
    figure, axes = plt.subplots(
        3, 1, figsize=(9.5, 5.4), layout="constrained", sharex=True, height_ratios=(0.6, 1, 1)
    )
    axes[0].plot(1.2 * x_T, color="black", lw=1.4, drawstyle="steps-post")
    axes[0].set(ylabel="current")
    for ax, (name, (layer, colour)) in zip(axes[1:], shown.items(), strict=True):
        state, v, w, spikes = None, [], [], []
        for x_1BN in (1.2 * x_TBN).split(1):
            s, state = layer.scan(x_1BN, state)
            v.append(float(state[0])), spikes.append(float(s))
            w.append(float(state[1]) if len(state) > 1 else np.nan)
        ax.plot(v, color=colour, lw=1.4, label="potential")
        if len(state) > 1:
            ax.plot(w, color=PURPLE, lw=1.2, ls="--", label="adaptation")
        ax.axhline(1.0, color=GREY, ls=":", lw=1)
        ax.eventplot(np.flatnonzero(spikes), lineoffsets=1.25, linelengths=0.3, color="black")
        ax.set(ylabel=name, ylim=(-0.9 if len(state) > 1 else -0.1, 1.5))
        ax.set_title(f"{int(sum(spikes))} spikes", loc="right", fontsize=9, color=GREY)
        ax.legend(loc="lower left" if len(state) > 1 else "upper left", fontsize=9)
    axes[-1].set(xlabel="time (steps)", xlim=(0, T))
    save(figure, path)


# -- pictures of a run, and of result lines ---


def roofline(path: Path) -> None:
    """Speed of every op and backend below what the machine allows, from the newest result lines."""
    from tables_common import latest

    from snndelay.runs.plots.roofline import roofline as draw

    lines = [x for x in latest("ops.jsonl", "op", "backend", "preset") if x["preset"] == "shd"]
    draw(lines, path)
    small(Image.open(path), path)


def of_run(preset: str, name: str) -> Callable[[Path], None]:
    """Draws the picture ``name`` that a run of ``preset`` leaves."""

    def draw(path: Path) -> None:
        folder = ROOT / "runs" / f"gallery-{preset}"
        if not (folder / "summary.json").is_file():
            words = [preset, "--runs", folder.parent, "--run", folder.name]
            words = ["--resume", folder] if (folder / "last.pt").is_file() else words
            subprocess.run([sys.executable, ROOT / "train.py", *words], check=True)
        small(Image.open(folder / f"{name}.png"), path)

    draw.__doc__ = f"`{name}.png` of a run of the preset {preset}."
    return draw


PICTURES = {
    "coincidence": coincidence,
    "kernel": kernel,
    "neurons": neurons,
    "raster": raster,
    "delays": of_run("spoken-digits", "delays"),
    "curves": of_run("spoken-digits", "learning_curves"),
    "saccade": saccade,
    "alignment": of_run("dvs", "alignment"),
    "roofline": roofline,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("names", nargs="+", choices=PICTURES, metavar="NAME")
    for name in parser.parse_args().names:
        path = PICTURES_AT / f"{name}.png"
        PICTURES[name](path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
