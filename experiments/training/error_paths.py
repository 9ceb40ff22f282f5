"""The way of one image's error through a network, before it is trained."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

import manual_bp.nn
from experiments.training.recording import Curves
from lightning_modules.callbacks.random_state import random_state, set_random_state
from lightning_modules.learner import Learner
from lightning_modules.networks import ConvNet


class ErrorPaths(Curves):
    """Follows the errors of the first batch's images through a classifier, one at a time.

    It looks before the first step and leaves the training alone. A layer's units are its filters,
    or the units of a dense layer; a unit is reached by an image's error when its weights get a
    gradient that is not zero. The curves are

    - ``reached/<layer>``: for each image the share of the layer's units that its error reaches;

    and, of a :class:`lightning_modules.networks.ConvNet` that shares its weights, for the first
    image, maps row by row:

    - ``image``: its pixels;
    - ``error/<layer>``: size of dL/dy at each position of the layer's output y, over the channels;
    - ``filters/<layer>``: the gradient of each filter, all numbers of the first filter first;
    - ``spread/<layer>`` and ``spread/image``: size of the gradient of one number alone, in the
      middle of the last convolution's output, at each position of an earlier layer's output and of
      the image;
    - ``shares``: how long the gradient is that each position of the first layer adds to that of its
      filter with the longest gradient;
    - ``sharing``: for each convolution the largest difference between its gradient and the sum over
      all positions of the gradients of the same network without shared weights, relative to the
      largest number of the gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Tensor] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the first batch."""
        if self._kept or trainer.global_step:
            return
        assert isinstance(pl_module, Learner)
        network = pl_module.network
        nn = torch.nn if pl_module.backprop == "autograd" else manual_bp.nn
        x, y = batch
        before = random_state(pl_module.device)
        with torch.enable_grad(), pl_module.differentiation():
            self._reach(pl_module, x, y)
            if isinstance(network, ConvNet) and network.shared:
                self._follow(pl_module, network, x[:1], y[:1])
                self._spread(network, x[:1])
                self._share(pl_module, network, network.unshared(nn), x[:1], y[:1])
        set_random_state(pl_module.device, before)

    def curves(self) -> dict[str, list[float]]:
        """All of it, on the host."""
        return {name: values.flatten().tolist() for name, values in self._kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept."""
        return {name: values.cpu() for name, values in self._kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._kept = dict(state_dict)

    def _reach(self, module: Learner, x: Tensor, y: Tensor) -> None:
        weights = _weights(module.network)
        reached: dict[str, list[Tensor]] = {name: [] for name in weights}
        for i in range(len(x)):
            loss, _ = module.loss_and_output((x[i : i + 1], y[i : i + 1]))
            for name, gradient in zip(weights, _gradients(loss, weights), strict=True):
                # One row a filter or unit; a layer without sharing has them at each position.
                rows = gradient.flatten(0, gradient.dim() - 2) if gradient.dim() == 3 else gradient
                reached[name].append((rows.flatten(1) != 0).any(1).double().mean())
        for name, shares in reached.items():
            self._keep(f"reached/{name}", torch.stack(shares))

    def _follow(self, module: Learner, network: ConvNet, x: Tensor, y: Tensor) -> None:
        weights = _weights(network)
        outputs, loss = _watched(network, lambda: module.loss_and_output((x, y))[0])
        errors = torch.autograd.grad(loss, list(outputs.values()), retain_graph=True)
        self._keep("image", x)
        for name, error in zip(outputs, errors, strict=True):
            self._keep(f"error/{name}", error.norm(dim=1))
        for name, gradient in zip(weights, _gradients(loss, weights), strict=True):
            self._keep(f"filters/{name}", gradient)

    def _spread(self, network: ConvNet, x: Tensor) -> None:
        x = x.clone().requires_grad_()
        outputs, _ = _watched(network, lambda: network(x))
        *_, last = outputs.values()
        middle = last[0, 0, last.shape[2] // 2, last.shape[3] // 2]
        earlier = dict(list(outputs.items())[:-1]) | {"image": x}
        found = torch.autograd.grad(middle, list(earlier.values()))
        for name, gradient in zip(earlier, found, strict=True):
            self._keep(f"spread/{name}", gradient.norm(dim=1))

    def _share(
        self, module: Learner, network: ConvNet, unshared: ConvNet, x: Tensor, y: Tensor
    ) -> None:
        shared, own = _weights(network), _weights(unshared)
        together = _gradients(module.loss_and_output((x, y))[0], shared)
        module.network = unshared
        apart = _gradients(module.loss_and_output((x, y))[0], own)
        module.network = network
        differences = [
            (single.sum(0) - whole.flatten(1)).abs().max() / whole.abs().max()
            for single, whole in zip(apart, together, strict=True)
        ]
        longest = int(together[0].flatten(1).norm(dim=1).argmax())
        self._keep("shares", apart[0][:, longest].norm(dim=1))
        self._keep("sharing", torch.stack(differences))

    def _keep(self, name: str, values: Tensor) -> None:
        self._kept[name] = values.detach().double()


def _weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """The weights of all layers but the read-out, by the layer's name."""
    return {
        name.removesuffix(".weight"): weight
        for name, weight in network.named_parameters()
        if name.endswith(".weight") and not name.startswith("output.")
    }


def _gradients(loss: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, list(weights.values()))


def _watched(network: ConvNet, run: Callable[[], Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """What ``run`` returns, after the outputs of the convolutions meanwhile by their names."""
    outputs: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _, args, y, name=name: outputs.update({name: y}))
        for name, layer in network.named_children()
        if name.startswith("conv")
    ]
    try:
        result = run()
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, result
