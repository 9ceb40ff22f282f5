"""A small residual network."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.networks.namespace import Namespace


class ResidualBlock(torch.nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015, arXiv:1512.03385, figure 2).

    ``y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``: (N, in_channels, H, W) to
    (N, channels, H / stride, W / stride), rounded up. The shortcut is the identity where the
    shapes agree, else a 1x1 convolution with BatchNorm (their option B).

    Args:
        nn: Where the layers come from.
        in_channels: Channels of x.
        channels: Channels of y.
        stride: Stride of the first convolution and of the shortcut.
    """

    def __init__(self, nn: Namespace, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        # BatchNorm subtracts the mean, so a bias before it would be a parameter without effect.
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = (
            nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                    norm=nn.BatchNorm2d(channels),
                )
            )
            if stride != 1 or in_channels != channels
            else nn.Identity()
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x, (N, in_channels, H, W)."""
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))


class ResNet(torch.nn.Module):
    """Stem, stages of residual blocks that halve the image, global average pool, read-out.

    Weights are initialized as in He et al. 2015 (arXiv:1502.01852): N(0, 2 / fan_out) for the
    convolutions. The residual add is a plain torch call; under ``manual_bp.by_hand()`` it is by
    hand too.

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        in_channels: Channels of the images, (N, in_channels, H, W).
        channels: Channels of each stage; every stage but the first starts with stride 2.
        blocks: Residual blocks of each stage.
        classes: Numbers in one output, the logits: (N, classes).

    Raises:
        ValueError: Channels and blocks are empty, differ in length or are not positive.
    """

    def __init__(
        self,
        nn: Namespace,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32),
        blocks: Sequence[int] = (1, 1),
        classes: int = 10,
    ) -> None:
        if not channels or len(channels) != len(blocks):
            raise ValueError(
                "channels and blocks need one entry for each stage, "
                f"got {tuple(channels)} and {tuple(blocks)}"
            )
        if min(in_channels, *channels, *blocks, classes) < 1:
            raise ValueError(
                "in_channels, channels, blocks and classes must be positive, "
                f"got {in_channels}, {tuple(channels)}, {tuple(blocks)} and {classes}"
            )
        stem = OrderedDict(
            conv=nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(channels[0]),
            relu=nn.ReLU(),
        )
        children: OrderedDict[str, torch.nn.Module] = OrderedDict(stem=nn.Sequential(stem))
        width = channels[0]
        for i, (stage_width, depth) in enumerate(zip(channels, blocks, strict=True), start=1):
            stage: OrderedDict[str, torch.nn.Module] = OrderedDict()
            for j in range(1, depth + 1):
                stride = 2 if i > 1 and j == 1 else 1
                stage[f"block{j}"] = ResidualBlock(nn, width, stage_width, stride)
                width = stage_width
            children[f"stage{i}"] = nn.Sequential(stage)
        children["pool"] = nn.AdaptiveAvgPool2d(1)
        children["flatten"] = nn.Flatten()
        children["output"] = nn.Linear(width, classes)
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        for module in self.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the inputs x: the children, one after the other."""
        for child in self.children():
            x = child(x)
        return x
