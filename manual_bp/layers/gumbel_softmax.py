r"""Gumbel-softmax: a draw from a categorical distribution that a gradient can go through.

Indices: ``i`` class, along ``dim``. Forward, with u_i uniform on (0, 1), temperature tau::

    g_i = -log(-log u_i)                       Gumbel noise
    y = softmax((x + g) / tau)

The index of the largest x_i + g_i is a draw from softmax(x). That cannot be differentiated; the
softmax can, and comes the closer to it the smaller tau is. Backward, with dL/dz the gradient of
the softmax with respect to its input z = (x + g) / tau::

    dL/dx_i = 1/tau dL/dz_i

The noise is a constant: it was moved out of the way of the gradient, by which a random choice
became a deterministic function of x and something random. With ``hard`` the output is the one-hot
draw, while the gradient is still that of ``y``: *straight through*, as if rounding had slope 1.

Jang, Gu & Poole (2017), "Categorical Reparameterization with Gumbel-Softmax", section 2. Straight
through: Bengio, Leonard & Courville (2013), "Estimating or Propagating Gradients Through Stochastic
Neurons", section 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.layers.softmax import softmax
from manual_bp.spec import Draw, Sample, Spec, sample


class PerturbFunction(Function):
    """``z = (x + noise) / tau``."""

    @staticmethod
    def forward(x: Tensor, noise: Tensor, tau: float) -> Tensor:
        return (x + noise) / tau

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.tau = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        return grad_z / ctx.tau, None, None


class StraightThroughFunction(Function):
    """``y``: shares along ``dim``; the output is 1 at the largest, else 0."""

    @staticmethod
    def forward(y: Tensor, dim: int) -> Tensor:
        index = y.argmax(dim, keepdim=True)
        drawn = torch.zeros_like(y, memory_format=torch.contiguous_format).scatter(dim, index, 1.0)
        return drawn - y + y  # what torch writes down, and rounds

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is needed."""

    @staticmethod
    def backward(ctx: Any, grad_drawn: Tensor) -> tuple[Tensor | None, ...]:
        return grad_drawn, None


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A random point near a one-hot one; as ``torch.nn.functional.gumbel_softmax``.

    Args:
        logits: any shape, logarithms of probabilities up to a constant
        tau: temperature
        hard: return the one-hot draw itself, with the gradient of the soft one
        eps: without effect
        dim: the axis of the classes

    Returns:
        The shape and dtype of ``logits``.

    Raises:
        IndexError: From torch, where there is no axis ``dim``.
    """
    if eps != 1e-10:
        warnings.warn("gumbel_softmax ignores its argument eps", stacklevel=2)
    exponential = torch.empty_like(logits, memory_format=torch.legacy_contiguous_format)
    noise = -exponential.exponential_().log()
    y = softmax(PerturbFunction.apply(logits, noise, tau), dim)
    return StraightThroughFunction.apply(y, dim) if hard else y


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.3, True, label="hard, cold")
    yield sample(draw(2, 4, 3), 2.0, dim=1, label="an axis in the middle")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), dim=2, label="no such axis")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="gumbel_softmax",
    formula="y = softmax((x - log(-log u)) / tau)",
    gradient="dx = softmax's / tau",
    manual=gumbel_softmax,
    native=torch.nn.functional.gumbel_softmax,
    samples=_samples,
    refused=_refused,
    bench=_bench,
    random=True,
)
