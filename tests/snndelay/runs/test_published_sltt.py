"""The presets of SLTT against networks and a training step written anew from its equations (Meng et
al. 2023, arXiv 2302.14311, sections 3 and 4) in plain torch.

Legend: T time steps, B batch, N classes.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snndelay import LIF
from snndelay.data.seeds import generator
from snndelay.runs import vision
from snndelay.runs.flat import from_flat, to_flat
from snndelay.runs.presets import build_model, preset_settings
from snndelay.runs.session import new_net

from ...conftest import assert_close

TAU, THRESHOLD = 1.1, 1.0
PUBLISHED = {
    "cifar10dvs": dict(
        network="vgg11", framing="event_count", n_steps=10, frame_size=48, split="file-order",
        batch_size=128, epochs=300, lr=0.05, backward_steps=2, dropout=0.3, step_target="one-hot",
        size=[48, 48],
    ),
    "dvsgesture": dict(
        network="vgg11", framing="event_count", n_steps=20, frame_size=None, split="file-order",
        batch_size=16, epochs=300, lr=0.1, backward_steps=4, dropout=0.4, step_target=1.0,
        size=[128, 128],
    ),
}  # fmt: skip
COMMON = dict(
    optimizer="sgd", momentum=0.9, weight_decay=5e-4, weight_decay_on="all", lr_end=0.0,
    warmup_epochs=0, cooldown_epochs=0, temporal_gradient="sltt", step_lambda=0.05, tau=TAU,
    v_threshold=THRESHOLD, decay_input=False, reset="soft", surrogate="triangle",
    surrogate_alpha=None, aug_crop=0, aug_flip=0.0, aug_rotate=0.0, valid_fraction=0.0,
    transfer="off", delays="none", neuron="lif",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name):
    flat = to_flat(from_flat(preset_settings(name)))
    for field, value in (COMMON | PUBLISHED[name]).items():
        assert flat[field] == value, f"{name}: {field} is {flat[field]}, published is {value}"


# -- the networks, once more ---


class Spike(torch.autograd.Function):
    """1 from the threshold on; backward the triangle max(0, 1 - |u|)."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, *grads):
        (u,) = ctx.saved_tensors
        return grads[0] * (1 - u.abs()).clamp(min=0)


class Neuron(nn.Module):
    """u = (1 - 1/tau) v + x with v cut from its past; a spike lowers v by the threshold."""

    v: torch.Tensor | None = None

    def forward(self, x):
        v = torch.zeros_like(x) if self.v is None else self.v.detach()
        u = (1 - 1 / TAU) * v + x
        s = Spike.apply(u - THRESHOLD)
        self.v = u - THRESHOLD * s
        return s


def vgg11(n_out: int) -> nn.Sequential:
    layers, c_in = [], 2
    for width in (64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P"):
        if width == "P":
            layers.append(nn.AvgPool2d(2, 2))
            continue
        conv = nn.Conv2d(c_in, width, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(width), Neuron(), nn.Dropout(0.0)]
        c_in = width
    head = [nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), nn.Linear(512 * 7 * 7, n_out)]
    return nn.Sequential(*layers, *head)


class PreActivation(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.bn1, self.neuron1 = nn.BatchNorm2d(c_in), Neuron()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1)
        self.bn2, self.neuron2 = nn.BatchNorm2d(c_out), Neuron()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1)
        plain = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if plain else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x):
        a = self.neuron1(self.bn1(x))
        y = self.conv2(F.dropout(self.neuron2(self.bn2(self.conv1(a))), 0.0))
        return y + self.shortcut(a)


def resnet18(n_out: int) -> nn.Sequential:
    layers, c_in = [nn.Conv2d(2, 64, 3, 1, 1, bias=False)], 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [PreActivation(c_in, width, stride), PreActivation(width, width, 1)]
        c_in = width
    head = [nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(0.0), nn.Linear(512, n_out)]
    return nn.Sequential(*layers, nn.BatchNorm2d(512), Neuron(), *head)


def pairs_of_vgg11(net, plain) -> list:
    """Our parameters beside those of the other network, in its order."""
    of = {kind: [m for m in plain if isinstance(m, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d)}
    modules = [(b.conv, conv) for b, conv in zip(net.blocks, of[nn.Conv2d], strict=True)]
    norms = zip(net.blocks, of[nn.BatchNorm2d], strict=True)
    return [*modules, *((b.norm, norm) for b, norm in norms), (net.heads["event"], plain[-1])]


def pairs_of_resnet18(net, plain) -> list:
    stem, *blocks = net.blocks
    others = [m for m in plain if isinstance(m, PreActivation)]
    norms = [*(other.bn1 for other in others[1:]), plain[-6]]  # our block ends with the next one's
    pairs = [(stem.conv, plain[0]), (stem.norm, others[0].bn1), (net.heads["event"], plain[-1])]
    for b, other, after in zip(blocks, others, norms, strict=True):
        pairs += [(b.first.conv, other.conv1), (b.first.norm, other.bn2)]
        pairs += [(b.second.conv, other.conv2), (b.second.norm, after)]
        pairs += [(b.shortcut, other.shortcut)]
    return pairs


PLAIN = {"vgg11": (vgg11, pairs_of_vgg11), "resnet18": (resnet18, pairs_of_resnet18)}


def aligned(ours: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Ours in the order of the other's: the features of VGG's readout lie channels last with us."""
    if ours.ndim == 2 and ours.shape[1] == 512 * 49:
        return ours.unflatten(1, (7, 7, 512)).permute(0, 3, 1, 2).flatten(1)
    return ours


@pytest.mark.parametrize("network", PLAIN)
def test_parameters_are_as_many(network):
    make, _ = PLAIN[network]
    for preset, n_out in (("cifar10dvs", 10), ("dvsgesture", 11)):
        net = build_model(preset, network=network)
        assert net.n_parameters == sum(p.numel() for p in make(n_out).parameters())
    assert network != "vgg11" or build_model("cifar10dvs").n_parameters == 9_476_298, "published"


@torch.no_grad()
def test_the_start_is_the_published_one():
    net = build_model("cifar10dvs")
    head = net.heads["event"]
    assert not head.bias.any() and abs(float(head.weight.std()) - 0.01) < 1e-4
    for block in net.blocks:
        std = (2 / (9 * block.conv.out_channels)) ** 0.5  # He, fan out
        assert not block.conv.bias.any() and not block.norm.bias.any()
        assert block.norm.weight.eq(1).all()
        assert abs(float(block.conv.weight.std()) / std - 1) < 0.1
    net = build_model("cifar10dvs", network="resnet18")
    assert not net.heads["event"].bias.any() and net.blocks[1].first.conv.bias.any()


# -- one step of training ---

CASES = [
    ("cifar10dvs", "vgg11", 3, 32),
    ("dvsgesture", "vgg11", 6, 64),
    ("cifar10dvs", "resnet18", 3, 32),
]


@pytest.mark.parametrize(("preset", "network", "T", "side"), CASES)
def test_a_training_step_equals_one_of_plain_torch(preset, network, T, side):
    changes = dict(network=network, n_steps=T, size=(side, side), dropout=0.0, amp=False)
    settings = from_flat(preset_settings(preset) | changes | {"graph": "off", "device": "cpu"})
    N, K, B = settings.network.n_out, settings.training.backward_steps, 2
    net = new_net(settings, {}, torch.device("cpu")).double()
    for neuron in (m for m in net.modules() if isinstance(m, LIF)):
        neuron.tau.fill_(TAU)  # which float32 had rounded
    make, pairs_of = PLAIN[network]
    plain = make(N).double()
    pairs = pairs_of(net, plain)
    for ours, other in pairs:
        if isinstance(ours, nn.BatchNorm2d):
            nn.init.uniform_(ours.weight, 0.5, 1.5)
            nn.init.uniform_(ours.bias, 0.2, 1.0)
        elif getattr(ours, "bias", None) is not None:
            nn.init.uniform_(ours.bias, -0.1, 0.1)  # so that its decay shows
        for p, q in zip(ours.parameters(), other.parameters(), strict=True):
            q.data.copy_(aligned(p.data, q))
    x = torch.poisson(torch.full((T, B, 2, side, side), 0.4, dtype=torch.float64))
    label_B = torch.tensor([N - 1, 0])

    session = vision.new_session(net, settings)
    job, batch = SimpleNamespace(settings=settings), SimpleNamespace(x=x, static=None)
    batch.label_B = label_B
    vision.train_step(job, session, batch)

    chosen = generator("sltt_steps", settings.training.seed, 0, 0).choice(T, K, replace=False)
    one_hot = settings.recipe.step_target == "one-hot"
    target = F.one_hot(label_B, N).double() if one_hot else torch.ones(B, N, dtype=torch.float64)
    sgd = torch.optim.SGD(plain.parameters(), settings.recipe.lr, 0.9, weight_decay=5e-4)
    for t in range(T):
        with torch.set_grad_enabled(t in chosen):
            o = plain(x[t])
            loss = (0.95 * F.cross_entropy(o, label_B) + 0.05 * F.mse_loss(o, target)) / T
        if t in chosen:
            loss.backward()
    compare(pairs, lambda p: p.grad, "gradient")
    sgd.step()
    compare(pairs, lambda p: p.data, "weights after the step")


def compare(pairs: list, of, what: str) -> None:
    largest = max(float(of(q).norm()) for _, other in pairs for q in other.parameters())
    for ours, other in pairs:
        for (name, p), q in zip(ours.named_parameters(), other.parameters(), strict=True):
            got, want, where = aligned(of(p), q), of(q), f"{what} of {name} of {type(other)}"
            if what == "gradient" and name == "bias" and isinstance(other, nn.Conv2d):
                assert max(got.norm(), want.norm()) < 1e-10 * largest, "BatchNorm takes it away"
            else:
                assert want.norm() > 0, where
                assert_close(got, want, 1e-8, where)
