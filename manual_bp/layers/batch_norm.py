r"""BatchNorm: every channel is shifted and scaled to mean 0 and variance 1 over the batch.

Indices: ``c`` channel, ``m`` one of its M values: the examples, times their positions where ``x``
has further axes (N, C, L...).

Forward, in training; in evaluation ``mean`` and ``var`` are the running ones, constants::

    mean_c = 1/M sum_m x_mc                              (C)
    rstd_c = 1 / sqrt(1/M sum_m (x_mc - mean_c)^2 + eps) (C)
    x^_mc  = (x_mc - mean_c) rstd_c
    y_mc   = weight_c x^_mc + bias_c

Backward, in training::

    dL/dx_mc     = weight_c rstd_c (dL/dy_mc - 1/M sum_k dL/dy_kc - x^_mc 1/M sum_k dL/dy_kc x^_kc)
    dL/dweight_c = sum_m dL/dy_mc x^_mc                  (C)
    dL/dbias_c   = sum_m dL/dy_mc                        (C)

The three terms, from x^ = (x - mean) rstd with g = weight dL/dy, the gradient of x^. By itself
x_m moves x^_m by rstd: the first. Through the mean it moves every x^_k by -rstd/M: that takes
1/M sum_k g_k from the first. Through the variance v: dv/dx_m = 2/M (x_m - mean), drstd/dv =
-rstd^3/2, and dL/drstd = sum_k g_k (x_k - mean); multiplied, -rstd x^_m 1/M sum_k g_k x^_k: the
third. The two sums are, but for 1/M, those of dL/dbias and dL/dweight. In evaluation there is
no way through mean and variance, and the first term stands alone.

Written out, the three terms are dL/dx = a dL/dy + b (x - mean) + c, three numbers to a channel::

    a = weight rstd,    b = -a rstd 1/M dL/dweight,    c = -a 1/M dL/dbias

(b x with the mean in c would spare a subtraction, and lose all digits where the mean is large.)

Ioffe & Szegedy (2015), "Batch Normalization", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from manual_bp.function import Function, is_recorded, widened
from manual_bp.spec import Draw, Sample, Spec, sample


class BatchNormFunction(Function):
    """``x``: (N, C, ...); ``weight``, ``bias`` and the running statistics: (C) or None."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # What torch.batch_norm calls, with mean and rstd besides y. In training it moves the
        # running statistics, too; no gradient flows through them.
        cudnn = torch.backends.cudnn.enabled
        y, mean, rstd, *_ = torch._batch_norm_impl_index(
            x, weight, bias, running_mean, running_var, training, momentum, eps, cudnn
        )
        return y, mean, rstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, running_mean, running_var, ctx.training, _, ctx.eps = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.bias = (None, None) if bias is None else (bias.shape, bias.dtype)
        if ctx.training:
            ctx.save_for_backward(x, weight, mean, rstd)
        else:
            ctx.save_for_backward(x, weight, running_mean, running_var)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 8
        x, weight, mean, rstd = ctx.saved_tensors
        if x.dim() < 2:  # torch takes an empty x without a channel axis, too
            return torch.zeros_like(x), *[None] * 7
        x_dtype, weight_dtype = x.dtype, None if weight is None else weight.dtype
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        bias_shape, bias_dtype = ctx.bias
        if x.numel() == 0:  # torch then asks nothing of weight and bias, not even their size
            zero = grad_y.sum()
            return (
                grad_y.to(x_dtype) if need_x else None,
                zero.to(weight_dtype).expand(weight.shape) if need_weight else None,
                zero.to(bias_dtype).expand(bias_shape) if need_bias else None,
                *[None] * 5,
            )
        grad_y, x, weight, mean, rstd = widened(grad_y, x, weight, mean, rstd)
        batch = [axis for axis in range(x.dim()) if axis != 1]  # the axes of m
        count = x.numel() // x.shape[1]  # M
        channels = (-1, *[1] * (x.dim() - 2))  # (C) stands along axis 1 of x as (C, 1...)
        if not ctx.training:
            rstd = (rstd + ctx.eps).rsqrt()
        elif is_recorded():  # mean and rstd depend on x: whoever differentiates must see it
            mean = x.sum(batch) / count
            var = (x - mean.view(channels)).square().sum(batch) / count
            rstd = (var + ctx.eps).rsqrt()

        grad_x: Tensor | None = None
        grad_weight: Tensor | None = None
        grad_bias: Tensor | None = None
        through_statistics = need_x and ctx.training
        if need_bias or through_statistics:
            grad_bias = grad_y.sum(batch)
        if need_weight or through_statistics:
            centred = x - mean.view(channels)
            grad_weight = (centred * grad_y).sum(batch) * rstd
        if need_x:
            a = rstd if weight is None else weight * rstd
            if not ctx.training:
                grad_x = grad_y * a.view(channels)
            else:
                b = -a * rstd * grad_weight / count
                c = -a * grad_bias / count
                a, b, c = (t.view(channels) for t in (a, b, c))
                if is_recorded():
                    grad_x = a * grad_y + b * centred + c
                else:  # the same in the buffer that is there
                    grad_x = centred.mul_(b).addcmul_(grad_y, a).add_(c)
            grad_x = grad_x.to(x_dtype)
        return (
            grad_x,
            grad_weight.to(weight_dtype) if need_weight and grad_weight is not None else None,
            grad_bias.to(bias_dtype) if need_bias and grad_bias is not None else None,
            *[None] * 5,
        )


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """BatchNorm with its gradients by hand; as ``torch.nn.functional.batch_norm``.

    Args:
        input: (N, C) or (N, C, L...)
        running_mean: (C), constant; moved towards the batch's in training, used in evaluation
        running_var: (C), likewise
        weight: (C), or None for 1
        bias: (C), or None for 0
        training: normalize by the statistics of the batch, not by the running ones
        momentum: how far the running statistics move, 0 to 1
        eps: added to the variance

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: In training, where a channel has a single value, or ``eps`` is not positive.
        RuntimeError: From torch, where sizes differ from C, or evaluation lacks the statistics.
    """
    if training:
        F._verify_batch_size(input.size())  # type: ignore[attr-defined]
    if training and eps <= 0.0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    """``batch_norm`` with the arguments in the order of ``torch.batch_norm``."""
    del cudnn_enabled
    return BatchNormFunction.apply(
        input, weight, bias, running_mean, running_var, training, momentum, eps
    )[0]


def _forward(module: torch.nn.modules.batchnorm._BatchNorm, input: Tensor) -> Tensor:
    """What the three modules share: which statistics are used, and how far they move."""
    module._check_input_dim(input)
    momentum = 0.0 if module.momentum is None else module.momentum
    tracked = module.track_running_stats or not module.training
    if module.training and module.track_running_stats and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        if module.momentum is None:  # the mean of all batches so far
            momentum = 1.0 / float(module.num_batches_tracked)
    return batch_norm(
        input,
        module.running_mean if tracked else None,
        module.running_var if tracked else None,
        module.weight,
        module.bias,
        module.training or (module.running_mean is None and module.running_var is None),
        momentum,
        module.eps,
    )


class BatchNorm1d(torch.nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` whose gradients are :class:`BatchNormFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C) or (N, C, L) to the same shape."""
        return _forward(self, input)


class BatchNorm2d(torch.nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` whose gradients are :class:`BatchNormFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return _forward(self, input)


class BatchNorm3d(torch.nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` whose gradients are :class:`BatchNormFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, D, H, W) to the same shape."""
        return _forward(self, input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), None, None, draw(3), draw(3), True)
    yield sample(draw(4, 3, 2), None, None, draw(3), None, True, label="(N, C, L), no bias")
    running = draw.fixed(3), draw.uniform(3, low=0.5, high=2)
    yield sample(draw(2, 3, 4, 5), *running, draw(3), draw(3), label="evaluation")
    yield sample(draw(4, 3), *running, eps=1e-2, label="evaluation, plain")
    yield sample(draw(4, 3, shift=1e3), None, None, draw(3), draw(3), True, label="large mean")
    yield sample(draw(0, 3), *running, draw(3), draw(3), label="no examples")
    yield sample(draw(0, 3, 2), None, None, draw(3), draw(3), True, label="trained on nothing")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(1, 3), None, None, training=True, label="a single value")
    yield sample(draw(4, 3), None, None, draw(2), training=True, label="channels differ")
    yield sample(draw(4, 3), None, None, label="nothing to evaluate with")
    yield sample(draw(4, 3), None, None, training=True, eps=0.0, label="eps")


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 3)
    yield sample(draw(4, 3, 2), 3, eps=1e-3, momentum=None, label="cumulative")
    yield sample(draw(4, 3), 3, affine=False, track_running_stats=False, label="bare")


def _modules_2d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), 3)
    yield sample(draw(2, 3, 4, 5), 3, momentum=0.0, bias=False)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 2, 4, 3), 3)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), None, None, draw(512), draw(512), True)
    yield sample(draw(32, 64, 32, 32), None, None, draw(64), draw(64), True)


SPEC = Spec(
    name="batch_norm",
    formula="y = weight (x - mean) rstd + bias, mean and rstd of each channel",
    gradient="dx = weight rstd (dy - mean(dy) - x^ mean(dy x^)),  dw = sum dy x^,  db = sum dy",
    manual=batch_norm,
    native=torch.nn.functional.batch_norm,
    inplace={torch.batch_norm: _batch_norm},
    samples=_samples,
    refused=_refused,
    modules={BatchNorm1d: _modules_1d, BatchNorm2d: _modules_2d, BatchNorm3d: _modules_3d},
    bench=_bench,
)
