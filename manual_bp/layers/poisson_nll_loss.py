r"""Negative log-likelihood of counts: how many events, where ``lambda_n`` were expected.

Indices: ``n`` element. ``x`` is log lambda, or lambda itself; ``t`` the counts. Both broadcast to
a common shape. dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward, -log of lambda^t exp(-lambda) / t!, without log t! or, with ``full``, with Stirling's
approximation to it (where t > 1)::

    l_n = exp(x_n) - t_n x_n                  x is log lambda
    l_n = x_n - t_n log(x_n + eps)            x is lambda
    l_n += t_n log t_n - t_n + log(2 pi t_n) / 2

Backward::

    dL/dx_n = dL/dl_n (exp(x_n) - t_n)        dL/dt_n = -dL/dl_n x_n
    dL/dx_n = dL/dl_n (1 - t_n / (x_n + eps)) dL/dt_n = -dL/dl_n log(x_n + eps)
    dL/dt_n += dL/dl_n (log t_n + 1 / (2 t_n))

From log lambda the gradient is *prediction minus truth* once more, as it is for every
distribution of the exponential family from its natural parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.reduction import fitted, named, share
from manual_bp.spec import Draw, Sample, Spec, sample


class PoissonNLLLossFunction(Function):
    """``x`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: str
    ) -> Tensor:
        return torch.nn.functional.poisson_nll_loss(
            x, target, log_input, full, eps=eps, reduction=reduction
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.log_input, ctx.full, ctx.eps, ctx.reduction = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved_tensors
        u, t = widened(x, target)
        shape = torch.broadcast_shapes(x.shape, target.shape)
        g = share(grad_y, ctx.reduction, shape.numel())
        grad_x = grad_target = None
        if ctx.needs_input_grad[0]:
            slope = u.exp() - t if ctx.log_input else 1 - t / (u + ctx.eps)
            grad_x = fitted(g * slope, x)
        if ctx.needs_input_grad[1]:
            slope = -u if ctx.log_input else -(u + ctx.eps).log()
            if ctx.full:
                slope = slope + (t.log() + 0.5 / t) * (t > 1)
            grad_target = fitted((g * slope).expand(shape), target)
        return grad_x, grad_target, None, None, None, None


@under_autocast("float32")
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Likelihood of counts, gradients by hand; as ``torch.nn.functional.poisson_nll_loss``.

    Args:
        input: log of the expected counts, or the expected counts, any shape
        target: the counts, a shape that broadcasts
        log_input: whether ``input`` is a logarithm
        full: add Stirling's approximation to log t!
        size_average: deprecated, see ``reduction``
        eps: added to ``input`` in its logarithm, if it is none itself
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
        ValueError: From torch, for an unknown reduction.
    """
    reduction = named(reduction, size_average, reduce)
    if input.is_complex():  # the formula is of real numbers
        return torch.nn.functional.poisson_nll_loss(
            input, target, log_input, full, eps=eps, reduction=reduction
        )
    return PoissonNLLLossFunction.apply(input, target, log_input, full, eps, reduction)


class PoissonNLLLoss(torch.nn.PoissonNLLLoss):
    """``torch.nn.PoissonNLLLoss`` whose gradients are :class:`PoissonNLLLossFunction`'s."""

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        """Map expected and found counts of one shape to the loss."""
        return poisson_nll_loss(
            log_input,
            target,
            log_input=self.log_input,
            full=self.full,
            eps=self.eps,
            reduction=self.reduction,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    expected = draw.uniform(4, 3, low=0.1, high=3.0).requires_grad_()
    yield sample(expected, draw(4, 3), False, eps=1e-3, reduction="none", label="not a log, none")
    counts = draw.uniform(4, 3, low=0.1, high=3.0).requires_grad_()
    yield sample(draw(4, 3), counts, full=True, reduction="sum", label="full, sum")
    yield sample(expected, counts, False, True, label="not a log, full")
    yield sample(draw(4, 3), draw.integers(4, 3), reduction="sum", label="broadcast integers")
    yield sample(draw(0, 3), draw.fixed(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 2), label="shapes differ")
    yield sample(draw(4, 3), draw.uniform(4, 3), reduction="average", label="reduction")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw.uniform(4, 3)))
    yield sample((draw.uniform(4, 3).requires_grad_(), draw.uniform(4, 3)), False, True)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.uniform(64, 512))
    yield sample(draw(1024, 2048), draw.uniform(1024, 2048))


SPEC = Spec(
    name="poisson_nll_loss",
    formula="L = mean(exp(x) - t x)",
    gradient="dx = dL (exp(x) - t) / N,  dt = -dL x / N",
    manual=poisson_nll_loss,
    native=torch.nn.functional.poisson_nll_loss,
    samples=_samples,
    refused=_refused,
    modules={PoissonNLLLoss: _modules},
    bench=_bench,
)
