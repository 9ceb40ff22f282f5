"""Lazy modules: they learn the size of their input from the first one, and are a layer by then.

Each is torch's own, with its checks and its hooks, and becomes a layer of :mod:`manual_bp.layers`
where torch's becomes one of ``torch.nn``. The first call computes with the gradients by hand, too:
torch has looked up ``forward`` before a lazy module turns into what it will be.
"""

from __future__ import annotations

import torch

from manual_bp.layers import batch_norm, conv_transpose, convolution, instance_norm, linear

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class LazyLinear(torch.nn.LazyLinear):
    """``torch.nn.LazyLinear`` that becomes a Linear by hand."""

    cls_to_become = linear.Linear
    forward = linear.Linear.forward


class LazyConv1d(torch.nn.LazyConv1d):
    """``torch.nn.LazyConv1d`` that becomes a Conv1d by hand."""

    cls_to_become = convolution.Conv1d
    forward = convolution.Conv1d.forward


class LazyConv2d(torch.nn.LazyConv2d):
    """``torch.nn.LazyConv2d`` that becomes a Conv2d by hand."""

    cls_to_become = convolution.Conv2d
    forward = convolution.Conv2d.forward


class LazyConv3d(torch.nn.LazyConv3d):
    """``torch.nn.LazyConv3d`` that becomes a Conv3d by hand."""

    cls_to_become = convolution.Conv3d
    forward = convolution.Conv3d.forward


class LazyConvTranspose1d(torch.nn.LazyConvTranspose1d):
    """``torch.nn.LazyConvTranspose1d`` that becomes a ConvTranspose1d by hand."""

    cls_to_become = conv_transpose.ConvTranspose1d
    forward = conv_transpose.ConvTranspose1d.forward


class LazyConvTranspose2d(torch.nn.LazyConvTranspose2d):
    """``torch.nn.LazyConvTranspose2d`` that becomes a ConvTranspose2d by hand."""

    cls_to_become = conv_transpose.ConvTranspose2d
    forward = conv_transpose.ConvTranspose2d.forward


class LazyConvTranspose3d(torch.nn.LazyConvTranspose3d):
    """``torch.nn.LazyConvTranspose3d`` that becomes a ConvTranspose3d by hand."""

    cls_to_become = conv_transpose.ConvTranspose3d
    forward = conv_transpose.ConvTranspose3d.forward


class LazyBatchNorm1d(torch.nn.LazyBatchNorm1d):
    """``torch.nn.LazyBatchNorm1d`` that becomes a BatchNorm1d by hand."""

    cls_to_become = batch_norm.BatchNorm1d
    forward = batch_norm.BatchNorm1d.forward


class LazyBatchNorm2d(torch.nn.LazyBatchNorm2d):
    """``torch.nn.LazyBatchNorm2d`` that becomes a BatchNorm2d by hand."""

    cls_to_become = batch_norm.BatchNorm2d
    forward = batch_norm.BatchNorm2d.forward


class LazyBatchNorm3d(torch.nn.LazyBatchNorm3d):
    """``torch.nn.LazyBatchNorm3d`` that becomes a BatchNorm3d by hand."""

    cls_to_become = batch_norm.BatchNorm3d
    forward = batch_norm.BatchNorm3d.forward


class LazyInstanceNorm1d(torch.nn.LazyInstanceNorm1d):
    """``torch.nn.LazyInstanceNorm1d`` that becomes an InstanceNorm1d by hand."""

    cls_to_become = instance_norm.InstanceNorm1d
    forward = instance_norm.InstanceNorm1d.forward


class LazyInstanceNorm2d(torch.nn.LazyInstanceNorm2d):
    """``torch.nn.LazyInstanceNorm2d`` that becomes an InstanceNorm2d by hand."""

    cls_to_become = instance_norm.InstanceNorm2d
    forward = instance_norm.InstanceNorm2d.forward


class LazyInstanceNorm3d(torch.nn.LazyInstanceNorm3d):
    """``torch.nn.LazyInstanceNorm3d`` that becomes an InstanceNorm3d by hand."""

    cls_to_become = instance_norm.InstanceNorm3d
    forward = instance_norm.InstanceNorm3d.forward
