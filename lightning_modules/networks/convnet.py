"""A small convolutional network, and the same without shared weights."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lightning_modules.networks.namespace import Namespace


class LocallyConnected2d(torch.nn.Module):
    """A convolution that shares nothing: every position has filters of its own (LeCun 1989).

    ``y[n, :, p] = weight[p] @ patch(x[n], p) + bias[p]`` for each of the P positions of the output:
    (N, in_channels, H, W) to (N, out_channels, H', W'). With the same ``weight[p]`` and ``bias[p]``
    everywhere it is ``nn.Conv2d``, whose gradients are then the sums of this layer's over p.

    Args:
        nn: Where the layers come from.
        in_channels: Channels of x.
        out_channels: Channels of y.
        kernel_size: Height and width of a filter.
        size: Height and width of x.
        stride: Of the positions.
        padding: Zeros around x on each side.

    Attributes:
        weight: (P, out_channels, in_channels * kernel_size**2), drawn as ``nn.Conv2d`` draws.
        bias: (P, out_channels), too.

    Raises:
        ValueError: The filter is larger than the padded x.
    """

    def __init__(
        self,
        nn: Namespace,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        size: tuple[int, int],
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        positions = tuple(_positions(n, kernel_size, stride, padding) for n in size)
        if min(positions) < 1:
            raise ValueError(
                f"a filter of {kernel_size}x{kernel_size} does not fit into {size[0]}x{size[1]} "
                f"with padding {padding}"
            )
        fan_in = in_channels * kernel_size**2
        count, bound = math.prod(positions), fan_in**-0.5
        super().__init__()
        self.size = positions
        self.unfold = nn.Unfold(kernel_size, padding=padding, stride=stride)
        self.weight = torch.nn.Parameter(
            torch.empty(count, out_channels, fan_in).uniform_(-bound, bound)
        )
        self.bias = torch.nn.Parameter(torch.empty(count, out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each position's filters to its patch of x, (N, in_channels, H, W)."""
        # Contiguous, since the products of the positions are small, and a third faster so.
        patches = self.unfold(x).permute(2, 1, 0).contiguous()  # (P, fan_in, N)
        y = self.weight @ patches + self.bias.unsqueeze(2)  # (P, out_channels, N)
        return y.permute(2, 1, 0).reshape(len(x), self.bias.shape[1], *self.size)


class ConvNet(torch.nn.Module):
    """Convolutions with ReLU that halve the image each time, then a linear read-out.

    It is the plan of LeCun et al. 1989 (Neural Computation 1): 5x5 filters, stride 2, no pooling.
    With ``shared=False`` the layers connect the same units, each by a weight of its own.

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        size: Height and width of the images, (N, in_channels, *size).
        in_channels: Channels of the images.
        channels: Filters of each layer.
        kernel_size: Height and width of a filter, an odd number.
        classes: Numbers in one output, the logits: (N, classes).
        shared: Whether a filter has the same weights at all positions.

    Raises:
        ValueError: A number is not positive, or the kernel size is even.
    """

    def __init__(
        self,
        nn: Namespace,
        size: tuple[int, int] = (28, 28),
        in_channels: int = 1,
        channels: Sequence[int] = (8, 16),
        kernel_size: int = 5,
        classes: int = 10,
        shared: bool = True,
    ) -> None:
        if min(*size, in_channels, *channels, classes) < 1:
            raise ValueError(
                "size, in_channels, channels and classes must be positive, "
                f"got {tuple(size)}, {in_channels}, {tuple(channels)} and {classes}"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        height, width = size
        half = kernel_size // 2
        children: OrderedDict[str, torch.nn.Module] = OrderedDict()
        for i, (fan, maps) in enumerate(pairwise((in_channels, *channels)), start=1):
            children[f"conv{i}"] = (
                nn.Conv2d(fan, maps, kernel_size, stride=2, padding=half)
                if shared
                else LocallyConnected2d(nn, fan, maps, kernel_size, (height, width), 2, half)
            )
            children[f"relu{i}"] = nn.ReLU()
            height, width = (_positions(n, kernel_size, 2, half) for n in (height, width))
        children["flatten"] = nn.Flatten()
        children["output"] = nn.Linear((in_channels, *channels)[-1] * height * width, classes)
        super().__init__()
        self.shared = shared
        self._arguments = (size, in_channels, channels, kernel_size, classes)
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the images x: the children, one after the other."""
        for child in self.children():
            x = child(x)
        return x

    def unshared(self, nn: Namespace) -> "ConvNet":
        """A network of ``shared=False``, its layers from ``nn``, that computes the same."""
        twin = ConvNet(nn, *self._arguments, shared=False).to(next(self.parameters()))
        with torch.no_grad():
            for name, own in twin.named_parameters():
                value = self.get_parameter(name).detach()
                own.copy_(value.flatten(1) if value.dim() == 4 else value)
        return twin


def _positions(n: int, kernel_size: int, stride: int, padding: int) -> int:
    """How many positions a filter has along an axis of n."""
    return (n + 2 * padding - kernel_size) // stride + 1
