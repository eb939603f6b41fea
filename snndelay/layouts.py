"""The layers of spiking conv nets, by name; networks.py builds them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

A, M = "average", "max"


def _start_vgg(net: nn.Module) -> None:
    """Biases of 0 and weights N(0, 0.01) of the readout, as torchvision's VGG starts."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _start_resnet(net: nn.Module) -> None:
    """Biases of 0 in the readout; those of the convolutions as torch draws them."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)


class Layout(NamedTuple):
    """Layers of a conv net in order, and how its head pools.

    ``layers``: an int is a 3x3 convolution to so many channels, a pair (channels, stride) a
    residual block, A and M average and maximum over 2 x 2 places. ``head``: ``flat``, every place
    of every channel is a feature; ``mean``: their mean per channel; a number n: their means over n
    x n cells. ``bias``: whether plain convolutions have biases. ``start``: what starts other
    values than torch does, called with the net.

    With residual blocks, dropout is inside them and on the features instead of on the spikes of
    plain convolutions.
    """

    layers: tuple
    head: str | int
    source: str
    bias: bool = False
    start: Callable[[nn.Module], None] | None = None

    @property
    def residual(self) -> bool:
        """Whether there are residual blocks."""
        return any(isinstance(layer, tuple) for layer in self.layers)


LAYOUTS = {
    "vgg": Layout(
        (64, 128, A, 256, 256, A, 512, 512, A, 512, 512, A), "flat", "He et al. 2024, 2303.13077"
    ),
    "vgg11": Layout(
        (64, A, 128, A, 256, 256, A, 512, 512, A, 512, 512, A),
        7,
        "Meng et al. 2023, 2302.14311",
        bias=True,
        start=_start_vgg,
    ),
    "resnet18": Layout(
        (64, *((64, 1),) * 2, (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)),
        "mean",  # of 4 x 4 places at 32 x 32 pixels, as published
        "pre-activation, Meng et al. 2023, 2302.14311",
        start=_start_resnet,
    ),
    # the frames are halved first, which costs no accuracy on N-MNIST and makes a step 5 times
    # faster; a mean per channel, because few labels fit no large head
    "small": Layout((A, 32, A, 64, A, 128), "mean", "for few recordings of about 34 x 34 pixels"),
}
