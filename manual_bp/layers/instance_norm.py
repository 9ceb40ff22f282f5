r"""InstanceNorm: every channel of every example is shifted and scaled by itself.

Indices: ``n`` example, ``c`` channel, ``l`` position.

Forward, with mean and variance over ``l`` alone; in evaluation, running ones of each channel::

    y_ncl = weight_c (x_ncl - mean_nc) rstd_nc + bias_c

It is BatchNorm of a single example with N C channels, of which those with the same ``c`` share
their weight and bias: the shared ones were used N times, and their blames add up, which is the
backward of an expand. Everything else is :mod:`manual_bp.layers.batch_norm`.

Ulyanov, Vedaldi & Lempitsky (2016), "Instance Normalization", section 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from manual_bp.layers.batch_norm import BatchNormFunction
from manual_bp.ops.expand import expand
from manual_bp.ops.view import reshape, squeeze, unsqueeze, view_as
from manual_bp.spec import Draw, Sample, Spec, sample


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """InstanceNorm with its gradients by hand; as ``torch.nn.functional.instance_norm``.

    Args:
        input: (N, C, L...)
        running_mean: (C), constant; moved towards the mean over the examples, or used
        running_var: (C), likewise
        weight: (C), or None for 1
        bias: (C), or None for 0
        use_input_stats: normalize by the statistics of the input, not by the running ones
        momentum: how far the running statistics move, 0 to 1
        eps: added to the variance

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: Where a channel has a single position.
        RuntimeError: From torch, where sizes differ from C, or the statistics are lacking.
    """
    if use_input_stats:
        F._verify_spatial_size(input.size())  # type: ignore[attr-defined]
    return _instance_norm(
        input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps
    )


def _instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    """``instance_norm`` with the arguments in the order of ``torch.instance_norm``."""
    if not use_input_stats and (running_mean is None or running_var is None):
        return torch.instance_norm(  # which says what is missing
            input, weight, bias, None, None, False, momentum, eps, cudnn_enabled
        )
    n, channels, *positions = input.shape

    def for_each_example(t: Tensor | None) -> Tensor | None:
        return None if t is None else reshape(expand(t, n, t.shape[0]), (n * t.shape[0],))

    mean, var = for_each_example(running_mean), for_each_example(running_var)
    y, *_ = BatchNormFunction.apply(
        reshape(input, 1, n * channels, *positions),
        for_each_example(weight),
        for_each_example(bias),
        mean,
        var,
        use_input_stats,
        momentum,
        eps,
    )
    if use_input_stats:  # each copy has moved by itself
        for running, moved in ((running_mean, mean), (running_var, var)):
            if running is not None and moved is not None:
                running.copy_(moved.view(n, channels).mean(0))
    return view_as(y, input)


def _forward(module: torch.nn.modules.instancenorm._InstanceNorm, input: Tensor) -> Tensor:
    """What the three modules share: an example may come without its axis."""
    module._check_input_dim(input)
    unbatched = input.dim() == module._get_no_batch_dim()
    axis = 0 if unbatched else 1
    if (found := input.size(axis)) != module.num_features:
        if module.affine:
            raise ValueError(
                f"expected input's size at dim={axis} to match num_features"
                f" ({module.num_features}), but got: {found}."
            )
        warnings.warn(
            f"input's size at dim={axis} does not match num_features. "
            "You can silence this warning by not passing in num_features, "
            "which is not used because affine=False",
            stacklevel=3,
        )
    y = instance_norm(
        unsqueeze(input, 0) if unbatched else input,
        module.running_mean,
        module.running_var,
        module.weight,
        module.bias,
        module.training or not module.track_running_stats,
        0.0 if module.momentum is None else module.momentum,
        module.eps,
    )
    return squeeze(y, 0) if unbatched else y


class InstanceNorm1d(torch.nn.InstanceNorm1d):
    """``torch.nn.InstanceNorm1d`` by hand, after :func:`instance_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, L) or (C, L) to the same shape."""
        return _forward(self, input)


class InstanceNorm2d(torch.nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d`` by hand, after :func:`instance_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        return _forward(self, input)


class InstanceNorm3d(torch.nn.InstanceNorm3d):
    """``torch.nn.InstanceNorm3d`` by hand, after :func:`instance_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, D, H, W) or (C, D, H, W) to the same shape."""
        return _forward(self, input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4), None, None, draw(3), draw(3))
    yield sample(draw(2, 3, 4, 2), label="plain")
    running = draw.fixed(3), draw.uniform(3, low=0.5, high=2)
    yield sample(draw(2, 3, 4), *running, draw(3), None, False, label="evaluation")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 1), label="a single position")
    yield sample(draw(2, 3, 4), use_input_stats=False, label="nothing to evaluate with")
    yield sample(draw(2, 3, 4), None, None, draw(2), label="channels differ")


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4), 3)
    yield sample(draw(3, 4), 3, affine=True, track_running_stats=True, label="unbatched, tracked")


def _modules_2d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), 3, affine=True, track_running_stats=True, momentum=0.3)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 2, 4, 3), 3, affine=True)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(8, 32, 8, 16), None, None, draw(32), draw(32))
    yield sample(draw(32, 64, 32, 32), None, None, draw(64), draw(64))


SPEC = Spec(
    name="instance_norm",
    formula="y = weight (x - mean) rstd + bias, mean and rstd of each channel of each example",
    gradient="batch_norm's, of one example with N C channels",
    manual=instance_norm,
    native=torch.nn.functional.instance_norm,
    inplace={torch.instance_norm: _instance_norm},
    samples=_samples,
    refused=_refused,
    modules={
        InstanceNorm1d: _modules_1d,
        InstanceNorm2d: _modules_2d,
        InstanceNorm3d: _modules_3d,
    },
    bench=_bench,
)
