"""Delay layers from and to the package ``dcls``, with all that their tensors are.

Legend: E elements per synapse, N neurons, C input channels; ``Dcls1d`` keeps (N, C, E).
"""

from typing import Any

import torch
from torch import Tensor, nn


def _put(module: Any, name: str, layer: Any, own: str, value: Tensor) -> None:
    """Puts a value in place of a parameter, trained if the module's is."""
    trains = getattr(module, name).requires_grad
    setattr(layer, own, nn.Parameter(value.detach().clone().contiguous(), requires_grad=trains))


def layer_of(cls: type, module: Any, **options) -> Any:
    """See ``DelayLinear.from_dcls``."""
    if module.groups != 1 or module.stride != (1,) or any(module.padding):
        raise ValueError(
            "only a Dcls1d with groups=1, stride=1 and padding=0 is a delay layer; "
            f"this one is {module}"
        )
    if options.get("delays", "learned") != "learned":
        raise ValueError("the positions of a Dcls1d can be learned: leave out delays")
    N, C, E = module.weight.shape
    K, sigma = module.dilated_kernel_size[0], module.SIG
    how = dict(version=module.version, kernel_count=E, bias=module.bias is not None, **options)
    learns = sigma is not None and sigma.requires_grad
    layer = cls(C, N, K, learn_sigma=learns, **how)
    _put(module, "weight", layer, "weight", module.weight.permute(2, 0, 1))
    _put(module, "P", layer, "position", module.P[0].permute(2, 0, 1))
    if module.bias is not None:
        _put(module, "bias", layer, "bias", module.bias)
    if sigma is None:
        layer.sigma = layer.sigma.to(module.weight)
    elif sigma.requires_grad:
        _put(module, "SIG", layer, "sigma", sigma[0].permute(2, 0, 1))
    else:  # a buffer; one number for all where it is one, as SNN-delays has it
        width = sigma[0].detach().permute(2, 0, 1).clone().contiguous()
        layer.sigma = width.view(-1)[0].clone() if (width == width.view(-1)[0]).all() else width
    return layer.train(module.training)


def dcls_of(layer: Any) -> nn.Module:
    """See ``DelayLinear.to_dcls``."""
    from DCLS.construct.modules import Dcls1d

    E, N, C = layer.weight.shape
    weight, position, sigma, K, version = layer.synapses
    bias = layer.bias is not None
    module = Dcls1d(C, N, E, dilated_kernel_size=K, bias=bias, version=version)
    pairs = [(module, "weight", weight.permute(1, 2, 0), weight)]
    pairs += [(module, "P", position.permute(1, 2, 0)[None], position)]
    if module.SIG is not None:
        pairs += [(module, "SIG", sigma.expand(E, N, C).permute(1, 2, 0)[None], sigma)]
    if bias:
        pairs += [(module, "bias", layer.bias, layer.bias)]
    with torch.no_grad():
        for owner, name, value, ours in pairs:
            parameter = getattr(owner, name)
            parameter.data = value.detach().clone().contiguous()
            parameter.requires_grad_(ours.requires_grad)
    return module.train(layer.training)
