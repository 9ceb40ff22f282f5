r"""Linear and cross-entropy in one: the head of a language model, without its logits in memory.

Indices: ``n`` example, ``c`` class of ``C``, ``d`` feature of ``D``.

Forward and backward are those of ``linear`` and ``cross_entropy``::

    z_nc = sum_d x_nd W_cd + b_c                       (N, C)
    L    = cross_entropy(z, t)

    e_nc = dL/dz_nc                                    (N, C)   prediction minus truth
    dL/dx_nd = sum_c e_nc W_cd                         (N, D)
    dL/dW_cd = sum_n e_nc x_nd                         (C, D)
    dL/db_c  = sum_n e_nc                              (C)

With a vocabulary of 32,000 the logits z, their logarithm of softmax and e are what fills the
memory, each N x C. But the loss is a sum over examples, and so is every gradient above: the rows
can be taken in chunks, of which one at a time is in memory. The chunk's logits are computed a
second time in the backward, a fourth matrix product beside the three of the plain way, which on
arrays that stay in cache costs less than moving the big ones.

Few examples, targets that are probabilities and K-dimensional losses go the plain way: ``linear``
and then ``cross_entropy``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.layers.cross_entropy import cross_entropy, logits_gradient
from manual_bp.layers.linear import linear
from manual_bp.layers.nll_loss import by_class, counted
from manual_bp.ops.view import reshape
from manual_bp.reduction import constants, reduced
from manual_bp.spec import Draw, Sample, Spec, sample

#: How many logits are in memory at the same time.
LOGITS = 2**23


class LinearCrossEntropyFunction(Function):
    """``x``: (N, D), ``weight``: (C, D), ``bias``: (C,) or None, ``target``: int64 (N,)."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        class_weight: Tensor | None,
        reduction: str,
        ignore_index: int,
        smoothing: float,
        chunk: int,
    ) -> Tensor:
        losses = torch.cat(
            [
                torch.nn.functional.cross_entropy(
                    torch.nn.functional.linear(rows, weight, bias),
                    labels,
                    class_weight,
                    ignore_index=ignore_index,
                    reduction="none",
                    label_smoothing=smoothing,
                )
                for rows, labels in zip(x.split(chunk), target.split(chunk), strict=True)
            ]
        )
        if reduction != "mean":
            return reduced(losses, reduction)
        one = losses.new_ones(())
        sizes, _, _ = counted(one, target, class_weight, ignore_index, "mean", weight.shape[0])
        return (losses * sizes.to(losses.dtype)).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, target, class_weight = inputs[:5]
        ctx.reduction, ctx.ignore_index, ctx.smoothing, ctx.chunk = inputs[5:]
        ctx.save_for_backward(x, weight, bias, target, class_weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, target, class_weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        examples = counted(
            grad_y, target, class_weight, ctx.ignore_index, ctx.reduction, weight.shape[0]
        )
        grad_x: list[Tensor] = []
        total_weight = torch.zeros_like(weight, dtype=examples[0].dtype)
        total_bias = None if bias is None else torch.zeros_like(bias, dtype=examples[0].dtype)
        chunks = zip(x.split(ctx.chunk), *(e.split(ctx.chunk) for e in examples), strict=True)
        for rows, g, r, label in chunks:
            (logits,) = widened(torch.nn.functional.linear(rows, weight, bias))
            e = logits_gradient(logits, 1, (g, r, label), class_weight, ctx.smoothing)
            if needs_bias and total_bias is not None:
                total_bias = total_bias + e.sum(0)
            e = e.to(x.dtype)
            if needs_x:
                grad_x.append(e @ weight)
            if needs_weight and (is_recorded() or x.dtype != total_weight.dtype):
                total_weight = total_weight + e.t() @ rows
            elif needs_weight:
                total_weight.addmm_(e.t(), rows)
        return (
            torch.cat(grad_x) if needs_x else None,
            total_weight.to(weight.dtype) if needs_weight else None,
            total_bias.to(bias.dtype) if needs_bias and total_bias is not None else None,
            *(None,) * 6,
        )


@under_autocast("lower")
def _operands(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """What goes into the matrix product, in the dtype that autocast gives it."""
    return tensors


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: torch.nn.LinearCrossEntropyOptions | None = None,
) -> Tensor:
    """Linear and cross-entropy by hand; as ``torch.nn.functional.linear_cross_entropy``.

    Args:
        input: (N, D) or (D,)
        linear_weight: (C, D), or (C, d..., D) for a K-dimensional loss
        target: classes (N,), (N, d...) or (), or probabilities (N, C, d...)
        linear_bias: (C, d...)
        weight: (C,) of the classes
        reduction: "none", "mean" or "sum"
        ignore_index: the class that does not count, -100 if None
        label_smoothing: in [0, 1]
        options: of these, the size of a chunk is taken

    Returns:
        A number, or the shape of the classes with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    classes, *places, features = linear_weight.shape if linear_weight.dim() > 1 else (0, 0)
    fits = (
        input.dim() in (1, 2)
        and linear_weight.dim() > 1
        and input.shape[-1] == features
        and (linear_bias is None or linear_bias.shape == linear_weight.shape[:-1])
        and (input.dim() == 2 or not places)
    )
    logits_shape = (*input.shape[:-1], classes, *places)
    probabilities = target.shape == logits_shape
    if not fits or (probabilities and ignore_index is not None):
        # What torch refuses, it refuses itself.
        return torch.nn.functional.linear_cross_entropy(
            input, linear_weight, target, linear_bias=linear_bias, ignore_index=ignore_index
        )
    ignored = -100 if ignore_index is None else ignore_index
    chunk = (options and options.batch_chunk_size) or max(1, LOGITS // max(classes, 1))
    if probabilities or places or input.dim() == 1 or len(input) <= chunk:
        if places:
            linear_weight = reshape(linear_weight, (-1, features))
            linear_bias = None if linear_bias is None else reshape(linear_bias, (-1,))
        logits = linear(input, linear_weight, linear_bias)
        logits = reshape(logits, logits_shape) if places else logits
        return cross_entropy(
            logits,
            target,
            weight,
            ignore_index=ignored,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
    constants(by_class(input), weight=weight)
    return LinearCrossEntropyFunction.apply(
        *_operands(input, linear_weight, linear_bias),
        target,
        weight,
        reduction,
        ignored,
        label_smoothing,
        chunk,
    )


class LinearCrossEntropyLoss(torch.nn.LinearCrossEntropyLoss):
    """``torch.nn.LinearCrossEntropyLoss`` whose gradients are by hand."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map features (N, D) and the truth to the loss."""
        shape = (self.num_classes, *self.out_features)
        weight: Tensor = self.linear.weight
        bias: Tensor | None = self.linear.bias
        if self.out_features:
            weight = reshape(weight, (*shape, self.linear.in_features))
            bias = None if bias is None else reshape(bias, shape)
        return linear_cross_entropy(
            input,
            weight,
            target,
            linear_bias=bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


def _small() -> torch.nn.LinearCrossEntropyOptions:
    return torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2)


def _samples(draw: Draw) -> Iterator[Sample]:
    label = draw.integers(3, 5)
    class_weight = draw.uniform(3, low=0.5)
    some: dict[str, Any] = {"weight": class_weight, "ignore_index": 1}
    yield sample(draw(5, 4), draw(3, 4), label)
    # None in chunks: torch's own gradient of the gradient is then silently 0. They are among the
    # modules' samples and in tests/test_linear_cross_entropy.py.
    bias = draw.fixed(3)
    yield sample(draw(5, 4), draw(3, 4), label, linear_bias=bias, **some, label="weight, bias")
    yield sample(draw(5, 4), draw(3, 4), draw(5, 3), label="probabilities")
    yield sample(draw(4), draw(3, 4), draw.integers(3), label="unbatched")
    places = draw.integers(3, 5, 2)
    yield sample(draw(5, 4), draw(3, 2, 4), places, label_smoothing=0.2, label="K-dimensional")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 4), draw(3, 2), draw.integers(3, 5), label="features differ")
    yield sample(draw(2, 5, 4), draw(3, 4), draw.integers(3, 5), label="three axes")
    yield sample(draw(5, 4), draw(3, 4), draw.integers(3, 5), linear_bias=draw(2), label="bias")
    yield sample(draw(5, 4), draw(3, 4), draw(5, 3), ignore_index=1, label="ignored probability")


def _modules(draw: Draw) -> Iterator[Sample]:
    chunks: dict[str, Any] = {"bias": True, "options": _small(), "ignore_index": 1}
    yield sample((draw(5, 4), draw.integers(3, 5)), 4, 3, **chunks)
    yield sample((draw(5, 4), draw.integers(3, 5)), 4, 3, **chunks, weight=draw.uniform(3))
    yield sample((draw(5, 4), draw.integers(3, 5)), 4, 3, **chunks, reduction="none")
    yield sample((draw(5, 4), draw.integers(3, 5, 2)), 4, 3, out_features=(2,), bias=True)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(512, 512), draw.integers(512, 64))
    yield sample(draw(2048, 256), draw(32000, 256), draw.integers(32000, 2048))


SPEC = Spec(
    name="linear_cross_entropy",
    formula="L = cross_entropy(x W^T + b, t)",
    gradient="e = dL (softmax(z) - onehot(t)) / N,  dx = e W,  dW = e^T x,  db = sum_n e",
    manual=linear_cross_entropy,
    native=torch.nn.functional.linear_cross_entropy,
    samples=_samples,
    refused=_refused,
    modules={LinearCrossEntropyLoss: _modules},
    bench=_bench,
)
