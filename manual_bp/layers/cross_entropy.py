r"""Cross-entropy: how far softmax's probabilities are from the truth; what classifiers minimise.

Indices: ``n`` example (of a batch, of a pixel ...), ``c`` class of ``C``, ``t_n`` the true class.

Forward, from logits ``x``, with the wanted share ``q_nc`` of each class in the loss::

    p_nc = exp(x_nc) / sum_k exp(x_nk)                    (N, C)
    l_n  = -sum_c q_nc log p_nc                           (N)
    L_n  = l_n  ("none"),  L = sum_n l_n  ("sum"),  L = sum_n l_n / Z  ("mean")

    q_nc = w_c ((1 - s) [c = t_n] + s / C),  0 where t_n is to be ignored;  Z = sum_n w_{t_n}
    q_nc = w_c ((1 - s) t_nc + s / C)        for targets that are probabilities;  Z = N

``w`` weighs the classes (1 without), ``s`` is the label smoothing.

Backward. Softmax alone has a full Jacobian, dp_c/dx_k = p_c ([c = k] - p_k), and the logarithm a
division by p_c; together both dissolve, since d(log p_c)/dx_k = [c = k] - p_k::

    dl_n/dx_nk = -sum_c q_nc ([c = k] - p_nk) = p_nk sum_c q_nc - q_nk

    dL/dx_nc = dL/dl_n (p_nc sum_k q_nk - q_nc)           (N, C)
    dL/dt_nc = -dL/dl_n w_c (1 - s) log p_nc              (N, C)  targets that are probabilities
    dL/dw_c  = -sum_n dL/dl_n log p_nc q_nc / w_c         (C)     likewise

In the plain case sum_k q_nk is 1, and the gradient is *prediction minus truth*, p - y. A class
that is predicted with probability 0 and should not be still gets a gradient of full size, where
dividing by p and multiplying by p again would give 0/0.

``p`` is computed from ``x`` a second time instead of kept: one pass more over the logits, against
an array of their size that would lie around from forward to backward.

Bridle (1990), "Probabilistic Interpretation of Feedforward Classification Network Outputs",
section 3; label smoothing: Szegedy et al. (2016), "Rethinking the Inception Architecture",
section 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.layers.nll_loss import by_class, class_axis, counted
from manual_bp.reduction import constants, named, share
from manual_bp.spec import Draw, Sample, Spec, sample


def logits_gradient(
    x: Tensor,
    axis: int,
    counted: tuple[Tensor, Tensor, Tensor],
    weight: Tensor | None,
    smoothing: float,
) -> Tensor:
    """``dL/dx`` where the targets are classes.

    Args:
        x: logits, at least float32
        axis: of the classes
        counted: of each example dL/dl_n, the same times w_{t_n}, and t_n
        weight: (C,) of the classes
        smoothing: s, the part of every example that goes to all classes in equal shares
    """
    g, r, label = (t.unsqueeze(axis) for t in counted)
    total = r
    if smoothing > 0:
        classes = x.shape[axis]
        g, r = g * (smoothing / classes), r * (1 - smoothing)
        shares = g if weight is None else g * _along(weight, axis, x.dim())
        total = r + (g * classes if weight is None else shares.sum(axis, keepdim=True))
    p = torch.softmax(x, axis)
    if is_recorded():
        grad_x = (p * total).scatter_add(axis, label, -r)
        return grad_x - shares if smoothing > 0 else grad_x
    grad_x = p.mul_(total).scatter_add_(axis, label, -r)
    return grad_x.sub_(shares) if smoothing > 0 else grad_x


class CrossEntropyFunction(Function):
    """``x``: (C,) or (N, C, d...), ``target``: int64, () or (N, d...), ``weight``: (C,) or None."""

    @staticmethod
    def forward(
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        smoothing: float,
    ) -> Tensor:
        return torch.nn.functional.cross_entropy(
            x,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=smoothing,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, weight, ctx.ignore_index, ctx.reduction, ctx.smoothing = inputs
        ctx.save_for_backward(x, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight = ctx.saved_tensors
        axis = class_axis(x)
        if x.shape[axis] == 0:  # no label can be right, but all may be ignored
            return torch.zeros_like(x), None, None, None, None, None
        examples = counted(grad_y, target, weight, ctx.ignore_index, ctx.reduction, x.shape[axis])
        (logits,) = widened(x)
        grad_x = logits_gradient(logits, axis, examples, weight, ctx.smoothing)
        return grad_x.to(x.dtype), None, None, None, None, None


class SoftCrossEntropyFunction(Function):
    """``x`` and ``target``: (C,) or (N, C, d...), ``weight``: (C,) or None."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
    ) -> Tensor:
        return torch.nn.functional.cross_entropy(
            x, target, weight, reduction=reduction, label_smoothing=smoothing
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, weight, ctx.reduction, ctx.smoothing = inputs
        ctx.save_for_backward(x, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight = ctx.saved_tensors
        axis, s = class_axis(x), ctx.smoothing
        classes = max(x.shape[axis], 1)
        logits, t = widened(x, target)
        w = 1 if weight is None else _along(weight, axis, x.dim())
        g = share(grad_y, ctx.reduction, x.numel() // classes)  # dL/dl_n
        g = g.unsqueeze(axis) if ctx.reduction == "none" else g
        smoothed = t * (1 - s) + s / classes if s > 0 else t
        grad_x = grad_target = grad_weight = None
        if ctx.needs_input_grad[0]:
            q = smoothed if weight is None else smoothed * w
            total = q.sum(axis, keepdim=True)
            grad_x = (g * (torch.softmax(logits, axis) * total - q)).to(x.dtype)
        if any(ctx.needs_input_grad[1:3]):
            blame = -g * torch.log_softmax(logits, axis)
            if ctx.needs_input_grad[1]:
                grad_target = (blame * w * (1 - s)).to(target.dtype)
            if ctx.needs_input_grad[2]:
                others = [i for i in range(x.dim()) if i != axis]
                grad_weight = blame * smoothed
                grad_weight = (grad_weight.sum(others) if others else grad_weight).to(weight.dtype)
        return grad_x, grad_target, grad_weight, None, None


def _along(weight: Tensor, axis: int, rank: int) -> Tensor:
    """The weights of the classes, (C,), laid along the axis of the classes; widened."""
    (weight,) = widened(weight)
    return weight.view([-1 if i == axis else 1 for i in range(rank)])


@under_autocast("float32")
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax and cross-entropy, gradient by hand; as ``torch.nn.functional.cross_entropy``.

    Args:
        input: logits (C,), (N, C) or (N, C, d...)
        target: int64 classes in [0, C), of the shape of ``input`` without C; or probabilities of
            the shape of ``input``
        weight: (C,) of the classes; a constant where the targets are classes
        size_average: deprecated, see ``reduction``
        ignore_index: the class that does not count
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"
        label_smoothing: in [0, 1], what part of the truth is spread over all classes

    Returns:
        A number, or the shape of ``input`` without C with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not fit and a weight that requires a gradient.
        IndexError: From torch, for a class out of range.
    """
    reduction = named(reduction, size_average, reduce)
    if target.is_floating_point() and target.shape == input.shape:
        return SoftCrossEntropyFunction.apply(input, target, weight, reduction, label_smoothing)
    constants(by_class(input), weight=weight)
    return CrossEntropyFunction.apply(
        input, target, weight, ignore_index, reduction, label_smoothing
    )


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """``torch.nn.CrossEntropyLoss`` whose gradient is :class:`CrossEntropyFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map logits (N, C, d...) and the truth to the loss."""
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    label, weight = draw.integers(3, 5), draw.uniform(3, low=0.5)
    none: dict[str, Any] = {"reduction": "none"}
    ignored: dict[str, Any] = {"ignore_index": 1}
    smooth: dict[str, Any] = {"label_smoothing": 0.3}
    yield sample(draw(5, 3), label)
    yield sample(draw(5, 3), label, weight, **none, **ignored, label="weight, none, ignored")
    yield sample(draw(5, 3), label, weight, **ignored, **smooth, label="weight, ignored, smoothed")
    yield sample(draw(5, 3), label, **ignored, **smooth, **none, label="ignored, smoothed, none")
    yield sample(draw(5, 3), label, weight, reduction="sum", label="weight, sum")
    yield sample(draw(5, 3), torch.ones_like(label), **ignored, label="all ignored", smooth=False)
    yield sample(draw(5, 3, scale=1e3), label, label="certain", smooth=False)
    yield sample(draw(3), draw.integers(3), weight, **smooth, label="unbatched")
    yield sample(draw(2, 3, 4), draw.integers(3, 2, 4), weight, **smooth, **none, label="1d")
    yield sample(draw(2, 3, 4, 2), draw.integers(3, 2, 4, 2), **ignored, label="2d")
    yield sample(draw(0, 3), draw.integers(3, 0), reduction="sum", label="no examples")
    yield sample(draw(5, 3), draw(5, 3), label="probabilities")
    yield sample(draw(5, 3), draw(5, 3), draw(3), **none, **smooth, label="probabilities, all")
    yield sample(draw(2, 3, 4), draw(2, 3, 4), draw(3), label="probabilities, 1d")
    yield sample(draw(3), draw(3), draw(3), reduction="sum", label="probabilities, unbatched")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw.integers(3, 4), label="lengths differ")
    yield sample(draw(5, 3), draw.integers(1, 5) + 3, label="out of range")
    yield sample(draw(5, 3), draw.integers(3, 5), draw(3), label="weight requires grad")
    yield sample(draw(5, 3), draw.fixed(5), label="probabilities of another shape")
    yield sample(draw(5, 3), draw.integers(3, 5), label_smoothing=2.0, label="smoothing")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(5, 3), draw.integers(3, 5)))
    yield sample((draw(5, 3), draw.integers(3, 5)), draw.uniform(3), label_smoothing=0.1)
    yield sample((draw(5, 3), draw(5, 3)), reduction="none")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.integers(512, 64))
    yield sample(draw(1024, 2048), draw.integers(2048, 1024))


SPEC = Spec(
    name="cross_entropy",
    formula="L = -mean_n log softmax(x)_{n, t_n}",
    gradient="dx = dL (softmax(x) - onehot(t)) / N",
    manual=cross_entropy,
    native=torch.nn.functional.cross_entropy,
    samples=_samples,
    refused=_refused,
    modules={CrossEntropyLoss: _modules},
    bench=_bench,
)
