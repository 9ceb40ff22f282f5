r"""GroupNorm: the channels of an example are shifted and scaled in groups, to mean 0, variance 1.

Indices: ``n`` example, ``c`` channel, ``l`` position; ``k`` group of channels. A group has M
values: its channels, times the L positions.

Forward, with k the group of c::

    mean_nk = 1/M sum_{c in k, l} x_ncl                              (N, K)
    rstd_nk = 1 / sqrt(1/M sum_{c in k, l} (x_ncl - mean_nk)^2 + eps)
    x^_ncl  = (x_ncl - mean_nk) rstd_nk
    y_ncl   = weight_c x^_ncl + bias_c

Backward. Within a group it is LayerNorm's, with g_ncl = dL/dy_ncl weight_c::

    dL/dx_ncl    = rstd_nk (g_ncl - 1/M sum_k g - x^_ncl 1/M sum_k g x^)
    dL/dweight_c = sum_nl dL/dy_ncl x^_ncl                           (C)
    dL/dbias_c   = sum_nl dL/dy_ncl                                  (C)

All sums are made of two, taken over the positions alone; what is left to do is then small::

    s_nc = sum_l dL/dy_ncl         p_nc = sum_l dL/dy_ncl x_ncl      (N, C)

    sum_l dL/dy x^ = (p - mean s) rstd
    dL/dx = a dL/dy + b x + c,     a = weight rstd,
                                   b = -rstd^2 1/M sum_{c in k} weight (p - mean s) rstd,
                                   c = -rstd 1/M sum_{c in k} weight s - b mean

Wu & He (2018), "Group Normalization", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.spec import Draw, Sample, Spec, sample


class GroupNormFunction(Function):
    """``x``: (N, C, ...), ``weight`` and ``bias``: (C) or None."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        (n, channels), positions = x.shape[:2], math.prod(x.shape[2:])
        batched = torch._C._are_functorch_transforms_active()  # and cannot be asked for its format
        if batched or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous()
        if weight is not None:  # the kernel reads along memory
            weight = weight.contiguous()
        if bias is not None:
            bias = bias.contiguous()
        return torch.native_group_norm(x, weight, bias, n, channels, positions, groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, ctx.groups, ctx.eps = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight, mean, rstd)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return None, None, None, None, None
        x, weight, mean, rstd = ctx.saved_tensors
        x_shape, x_dtype, groups = x.shape, x.dtype, ctx.groups
        grad_y, x, w, mean, rstd = widened(grad_y, x, weight, mean, rstd)
        if x.dim() == 2:  # one position
            grad_y, x = grad_y.unsqueeze(2), x.unsqueeze(2)
        n, channels, *positions = x.shape
        split = (n, groups, channels // groups)  # (N, C) with its channels in their groups
        count = max(math.prod(positions) * split[2], 1)  # M
        if is_recorded():  # mean and rstd depend on x: whoever differentiates this must see it
            group = x.unflatten(1, split[1:]).flatten(2)  # (N, K, M)
            mean = group.sum(2) / count
            rstd = ((group - mean.unsqueeze(2)).square().sum(2) / count + ctx.eps).rsqrt()
        mean, rstd = mean.unsqueeze(2), rstd.unsqueeze(2)
        over_positions = list(range(2, x.dim()))
        s = grad_y.sum(over_positions).view(split)
        product = grad_y * x
        along_xhat = (product.sum(over_positions).view(split) - mean * s) * rstd

        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            w = s.new_ones(split[1:]) if w is None else w.view(split[1:])
            b = -rstd * rstd * (w * along_xhat).sum(2, keepdim=True) / count
            c = -rstd * (w * s).sum(2, keepdim=True) / count - b * mean
            per_channel = n, channels, *[1] * len(positions)
            a, b, c = ((t + torch.zeros_like(s)).view(per_channel) for t in (w * rstd, b, c))
            if is_recorded():
                grad_x = a * grad_y + b * x + c
            else:  # the same in the buffer that is there
                grad_x = torch.mul(grad_y, a, out=product).addcmul_(x, b).add_(c)
            grad_x = grad_x.view(x_shape).to(x_dtype)
        if ctx.needs_input_grad[1]:
            grad_weight = along_xhat.sum(0).view(channels).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = s.sum(0).view(channels).to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None, None


@under_autocast("float32", devices=("cuda",))
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """GroupNorm with its gradients by hand; as ``torch.nn.functional.group_norm``.

    Args:
        input: (N, C, ...)
        num_groups: into how many groups the channels are divided
        weight: (C), or None for 1
        bias: (C), or None for 0
        eps: added to the variance

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, where the groups do not divide C, or weight or bias are not (C).
        ValueError: Where a group has a single value in the whole batch.
    """
    if input.dim() < 2:
        raise RuntimeError(
            f"Expected at least 2 dimensions for input tensor but received {input.dim()}"
        )
    values = input.size(0) * input.size(1) // num_groups
    F._verify_batch_size([values, num_groups, *input.size()[2:]])  # type: ignore[attr-defined]
    return GroupNormFunction.apply(input, weight, bias, num_groups, eps)[0]


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """``group_norm`` with the arguments of ``torch.group_norm``."""
    del cudnn_enabled
    return GroupNormFunction.apply(input, weight, bias, num_groups, eps)[0]


class GroupNorm(torch.nn.GroupNorm):
    """``torch.nn.GroupNorm`` whose gradients are :class:`GroupNormFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, ...) to the same shape."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), 2, draw(4), draw(4))
    yield sample(draw(2, 6, 3, 2), 2, label="plain")
    yield sample(draw(4, 6), 3, draw(6), None, 1e-2, label="(N, C), no bias, eps")
    yield sample(draw(2, 4, 3, shift=1e3), 1, draw(4), draw(4), label="one group, large mean")
    yield sample(draw(2, 4, 3), 4, draw(4), label="a group for each")
    yield sample(draw(0, 4, 3), 2, draw(4), draw(4), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), 2, label="groups do not divide")
    yield sample(draw(2, 4), 2, draw(3), label="weight differs")
    yield sample(draw(4), 2, label="one axis")
    yield sample(draw(1, 4), 4, label="a single value")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3, 5), 2, 4)
    yield sample(draw(2, 6, 3), 3, 6, eps=1e-3, affine=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(8, 32, 8, 16), 8, draw(32), draw(32))
    yield sample(draw(32, 64, 32, 32), 8, draw(64), draw(64))


SPEC = Spec(
    name="group_norm",
    formula="y = weight (x - mean) rstd + bias, mean and rstd of each group of channels",
    gradient="dx = rstd (g - mean(g) - x^ mean(g x^)),  g = dy weight",
    manual=group_norm,
    native=torch.nn.functional.group_norm,
    inplace={torch.group_norm: _group_norm},
    samples=_samples,
    refused=_refused,
    modules={GroupNorm: _modules},
    bench=_bench,
)
