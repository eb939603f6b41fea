import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snndelay.conv_net import ConvNet
from snndelay.errors import ConfigError
from snndelay.layouts import LAYOUTS
from snndelay.networks import NETWORKS

from ..conftest import assert_close

OWN_SIZE = {"vgg": (16, 20), "vgg11": (32, 32), "resnet18": (9, 12), "small": (11, 8)}
SIZE = {name: OWN_SIZE.get(name, (32, 32)) for name in LAYOUTS}
METHODS = ("delay_layers", "activity", "scan", "set_sigma", "clamp_")


def frames(network, T=4, B=2, dtype=torch.float32):
    return torch.poisson(torch.full((T, B, 2, *SIZE[network]), 0.4, dtype=dtype))


def test_parameter_count_is_the_published_one():
    net = ConvNet("vgg", 101, (48, 48), 10, two_heads=True)
    assert net.n_parameters == 10_153_684, "trained parameters, the ten coefficients included"
    assert (net.n_layers, net.n_constants) == (8, 16)
    assert net.n_parameters + net.n_constants == 10_153_700, "as published"
    assert net.coefficient.tolist() == [1.0] * 10
    assert ConvNet("vgg", 101, (48, 48)).n_parameters == 10_153_684 - 10 - 4608 * 101 - 101


@pytest.mark.parametrize(
    ("network", "layers", "convolutions"),
    [("vgg", 8, 9_217_152), ("vgg11", 8, 9_217_152), ("resnet18", 17, 11_158_656),
     ("small", 3, 92_736)],  # without biases
)  # fmt: skip
def test_layers_are_those_of_the_papers(network, layers, convolutions):
    net = ConvNet(network, 10, SIZE[network])
    assert net.n_layers == layers
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert sum(w.numel() for w in weights) == convolutions


@pytest.mark.parametrize("network", LAYOUTS)
def test_a_network_trains(network):
    net = ConvNet(network, 5, SIZE[network], 4, two_heads=True, dropout=0.2, max_delay_steps=3)
    x, y = frames(network), torch.tensor([0, 4])
    for head in ("event", "static"):
        o, u, state = net.scan(x, head=head, potentials=True)
        assert o.shape == (4, 2, 5) and u.shape[:2] == (4, 2)
        assert len(state) == len(net.blocks) + 1
        (F.cross_entropy(o.mean(0), y) + u.square().mean()).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["coefficient"], "only the loss uses the coefficients"
    net.clamp_()
    assert net.scan(x)[1] is None, "no potentials unless asked for"


@pytest.mark.parametrize("network", LAYOUTS)
def test_chunks_equal_the_whole(network):
    net = ConvNet(network, 5, SIZE[network], max_delay_steps=3).double()
    x = frames(network, T=6, dtype=torch.float64)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    net(x)  # running statistics under which neurons fire
    net.eval()
    with torch.no_grad():
        whole, u_whole, _ = net.scan(x, potentials=True)
        state, parts = None, []
        for chunk in x.split([2, 1, 3]):
            *part, state = net.scan(chunk, state, potentials=True)
            parts.append(part)
        logits, potentials = zip(*parts, strict=True)
        assert_close(torch.cat(logits), whole, 1e-12, "logits")
        assert_close(torch.cat(potentials), u_whole, 1e-12, "potentials")
        again, spikes = net.activity(x)
    assert_close(again, whole, 1e-12, "activity")
    assert_close(net(x), whole, 1e-12, "forward")
    assert len(spikes) == net.n_layers and all(s.any() for s in spikes)


@pytest.mark.parametrize("network", ["vgg11", "resnet18"])
def test_dropout_holds_its_mask_over_chunks(network):
    net, x = ConvNet(network, 5, SIZE[network], dropout=0.4), frames(network, T=5)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()  # the statistics of a chunk would be its own
            nn.init.constant_(m.bias, 0.4)  # so that neurons fire
    net.heads["event"] = nn.Identity()
    torch.manual_seed(1)
    whole, state, parts = net(x), None, []
    torch.manual_seed(1)
    for chunk in x.split([2, 1, 2]):
        features, _, state = net.scan(chunk, state)
        parts.append(features)
    assert_close(torch.cat(parts), whole, 1e-5, "features")
    silent = (whole == 0).all(0).float().mean()
    if network == "resnet18":
        assert 0.35 < silent < 0.55, f"{silent:.0%} of the features are dropped at every step"


def peer(net: ConvNet, x_TBCHW):
    """The layers of a net without residual blocks, run by torch and SpikingJelly."""
    from spikingjelly.activation_based import neuron, surrogate

    x_BCHW = x_TBCHW.flatten(0, 1)
    pools = {None: nn.Identity(), "average": nn.AvgPool2d(2), "max": nn.MaxPool2d(2)}
    for block in net.blocks:
        node = neuron.LIFNode(2.0, True, 0.5, 0.0, surrogate.PiecewiseQuadratic(2.0), True, "m")
        y_BCHW = block.conv(pools[block.pool](x_BCHW))
        y_BCHW = F.batch_norm(y_BCHW, None, None, block.norm.weight, block.norm.bias, True)
        x_BCHW = node(y_BCHW.unflatten(0, x_TBCHW.shape[:2])).flatten(0, 1)
    x_BCHW = pools[net.pool](x_BCHW)
    if net.head == 7:
        x_BCHW = F.adaptive_avg_pool2d(x_BCHW, 7)
    features = x_BCHW.mean((2, 3)) if net.head == "mean" else x_BCHW.permute(0, 2, 3, 1).flatten(1)
    return net.heads["event"](features).unflatten(0, x_TBCHW.shape[:2])


@pytest.mark.parametrize("network", ["vgg", "vgg11", "small"])
def test_equals_the_layers_of_spikingjelly(network):
    net, x = ConvNet(network, 5, SIZE[network]).double(), frames(network, dtype=torch.float64)
    want, got = peer(net, x), net(x)
    assert_close(got, want, 1e-10, "logits")
    cotangent, parameters = torch.randn_like(want), list(net.parameters())
    for (name, _), a, b in zip(
        net.named_parameters(),
        *(torch.autograd.grad(o, parameters, cotangent) for o in (got, want)),
        strict=True,
    ):
        if name.endswith("conv.bias"):
            assert a.abs().max() < 1e-9 * cotangent.norm(), "BatchNorm takes a bias away again"
        else:
            assert_close(a, b, 1e-9, f"gradient of {name}")


def test_backends_agree():
    net = ConvNet("small", 5, SIZE["small"])
    twin = ConvNet("small", 5, SIZE["small"], backend="reference")
    twin.load_state_dict(net.state_dict())
    x = frames("small")
    (o, s), (o_twin, s_twin) = net.activity(x), twin.activity(x)
    assert [int((a != b).sum()) for a, b in zip(s, s_twin, strict=True)] == [0, 0, 0]
    assert_close(o, o_twin, 1e-5, "logits")
    o.square().sum().backward()
    o_twin.square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert_close(p.grad, q.grad, 1e-4, name)


@pytest.mark.parametrize(("network", "error"), [("small", 0.6), ("resnet18", 0.9)])
def test_half_precision_stays_close(network, error):
    net, x = ConvNet(network, 5, SIZE[network]), frames(network)
    want = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        o, u, _ = net.scan(x, potentials=True)
    assert o.dtype == torch.bfloat16 and u.dtype == torch.float32
    o.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())
    off = (o - want).norm() / want.norm()
    assert off < error, f"8 bits of mantissa flip spikes: {off} (unrelated logits: 1.4)"


def test_every_tensor_is_channels_last():
    net = ConvNet("resnet18", 5, SIZE["resnet18"])
    for s in net.activity(frames("resnet18"))[1]:
        assert s.permute(0, 1, 3, 4, 2).is_contiguous()
    for m in net.modules():
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
            assert m.weight.is_contiguous(memory_format=torch.channels_last)


def test_delays():
    net = ConvNet("small", 5, SIZE["small"], max_delay_steps=5)
    layers = net.delay_layers()
    assert [len(layer.position) for layer in layers] == [2, 32, 64]
    assert [float(layer.sigma) for layer in layers] == [2, 2, 2]
    net.set_sigma(0.23)
    assert [float(layer.sigma) for layer in layers] == pytest.approx([0.23] * 3)
    layers[1].position.data.fill_(99)
    net.clamp_()
    assert layers[1].position.max() == 2
    assert ConvNet("small", 5, SIZE["small"]).delay_layers() == []


def test_neuron_settings_reach_every_layer():
    net = ConvNet("resnet18", 5, SIZE["resnet18"], neuron="plif", tau=3.0, v_threshold=0.7)
    from snndelay import LIF

    neurons = [m for m in net.modules() if isinstance(m, LIF)]
    assert len(neurons) == 17
    for n in neurons:
        assert (n.neuron, n.options.v_threshold, n.options.decay_input) == ("plif", 0.7, True)
        assert (n.options.surrogate, n.options.alpha) == ("piecewise_quadratic", 2.0)
        assert_close(torch.sigmoid(n.w), torch.full_like(n.w, 1 / 3), 1e-6, "1/tau")


def test_wrong_settings_are_named():
    for call, message in (
        (lambda: ConvNet("vgg12", 5, (34, 34)), "no conv net 'vgg12': did you mean vgg11"),
        (lambda: ConvNet("vgg11", 5, (31, 48)), "vgg11 pools 31x48 pixels down to nothing"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_the_table_builds_every_network():
    for name, network in NETWORKS.items():
        sizes = {"n_in": 2, "n_out": 3}
        if network.kind == "vision":
            sizes |= {"size": SIZE[name], "n_steps": 4}
        net = network.build(**sizes)
        missing = [method for method in METHODS if not callable(getattr(net, method, None))]
        assert isinstance(net, nn.Module) and not missing, f"{name} lacks {missing}"
        assert network.help
