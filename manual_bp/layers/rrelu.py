r"""RReLU: a LeakyReLU whose slope is drawn at random while training.

Forward, with slopes s drawn uniformly from [a, b), one for each element that is not positive::

    y = x  where x > 0,  else  s x

Backward::

    dL/dx = dL/dy  where x > 0,  else  s dL/dy

Written with a factor r for every element, r = 1 where x > 0 and else r = s, both are products:
y = r x and dL/dx = r dL/dy. In evaluation s is the mean of a and b. The slopes are drawn as torch
draws them, so that the same seed gives the same ones.

Xu, Wang, Chen & Li (2015), "Empirical Evaluation of Rectified Activations in Convolutional
Network", section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.layers.leaky_relu import leaky_relu
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class RReLUFunction(Function):
    """``x`` of any shape; ``lower`` and ``upper``: bounds of the slope."""

    @staticmethod
    def forward(x: Tensor, lower: float, upper: float) -> tuple[Tensor, Tensor]:
        factors = torch.empty_like(x, memory_format=torch.contiguous_format)
        draw: Any = torch._C._nn.rrelu_with_noise  # type: ignore[attr-defined]
        y = draw(x, factors, lower, upper, True)
        return y, factors  # the factors have been drawn into their place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, factors = output
        ctx.mark_non_differentiable(factors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(factors)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return None, None, None
        (factors,) = ctx.saved_tensors
        g, r = widened(grad_y, factors)
        return (g * r).to(grad_y.dtype), None, None


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """LeakyReLU with random slopes; as ``torch.nn.functional.rrelu``.

    Args:
        input: any shape, floating-point
        lower: of the slope
        upper: of the slope
        training: where False, the slope is the mean of the two
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, where the bounds are crossed.
    """
    if lower > upper:
        return torch.rrelu(input, lower, upper, training)  # which refuses it
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    y, _ = RReLUFunction.apply(clone(input) if inplace else input, lower, upper)
    return copy_(input, y) if inplace else y


def rrelu_(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False
) -> Tensor:
    """``rrelu`` in place; as ``torch.nn.functional.rrelu_``."""
    return rrelu(input, lower, upper, training, inplace=True)


class RReLU(torch.nn.RReLU):
    """``torch.nn.RReLU`` whose gradient is :class:`RReLUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return rrelu(input, self.lower, self.upper, self.training, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), training=True)
    yield sample(draw(4, 3), 0.1, 0.9, True, label="bounds")
    yield sample(draw(4, 3), label="evaluation")
    yield sample(draw.values(-1.0, -0.0, 0.0, 1.0), training=True, label="kink", smooth=False)
    yield sample(draw(0, 3), training=True, label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0.5, 0.1, True, label="bounds crossed")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.1, 0.9)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), training=True)
    yield sample(draw(1024, 2048), training=True)


SPEC = Spec(
    name="rrelu",
    formula="y = x where x > 0, else s x,  s random",
    gradient="dx = dy where x > 0, else s dy",
    manual=rrelu,
    native=torch.nn.functional.rrelu,
    overrides=(torch.rrelu,),
    inplace={torch.rrelu_: rrelu_},
    samples=_samples,
    refused=_refused,
    modules={RReLU: _modules},
    bench=_bench,
    random=True,
)
