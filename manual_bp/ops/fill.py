r"""What takes no notice of what was there: fill, ``zero_``, and the draws normal and bernoulli.

Forward: every element of ``x`` becomes the number ``v``, or a random one z::

    y_i = v                  y_i = z_i

Backward: what ``x`` was makes no difference any more; ``v`` is blamed once for each element::

    dL/dx = 0                dL/dv = sum_i dL/dy_i

Like PyTorch, this gives a draw the gradient 0 with respect to what it was drawn by, a probability
or a mean. It is not the derivative of the expected value, which takes another way: write
``mean + std * torch.randn_like(std)``, as Kingma & Welling (2014), "Auto-Encoding Variational
Bayes", section 2.4, or the score function of Williams (1992), "Simple Statistical
Gradient-Following Algorithms for Connectionist Reinforcement Learning".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, nothing_to_do
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Spec, sample


class FillFunction(Function):
    """``x``: any shape; ``value``: a number, or a tensor without axes."""

    @staticmethod
    def forward(x: Tensor, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor) and value.dim() == 0:  # for which fill cannot be batched
            return value.to(x.device, x.dtype).expand(x.shape).clone()
        return torch.fill(x, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.value = kind(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = torch.zeros_like(grad_y) if ctx.needs_input_grad[0] else None
        grad_value = reduced(grad_y, *ctx.value) if ctx.needs_input_grad[1] else None
        return grad_x, grad_value


class OverwriteFunction(Function):
    """``x`` is written over by its ``method``; ``value`` is the number, None without one."""

    # A batched function may not modify an argument that is not batched itself.
    generate_vmap_rule = False

    @staticmethod
    def forward(
        x: Tensor, value: Tensor | None, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        return getattr(x, method)(*(args if value is None else (value,)), **kwargs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, value, *_ = inputs
        ctx.mark_dirty(x)
        ctx.value = kind(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = torch.zeros_like(grad) if ctx.needs_input_grad[0] else None
        grad_value = reduced(grad, *ctx.value) if ctx.needs_input_grad[1] else None
        return grad_x, grad_value, None, None, None


class DrawFunction(Function):
    """``parameters``: what ``method`` draws by, tensors and numbers."""

    @staticmethod
    def forward(method: str, kwargs: dict[str, Any], *parameters: Any) -> Tensor:
        return getattr(torch, method)(*parameters, **kwargs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kinds = [kind(a) for a in inputs[2:]]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return (
            None,
            None,
            *(
                grad_y.new_zeros(k[0], dtype=k[1]) if wanted and k is not None else None
                for k, wanted in zip(ctx.kinds, ctx.needs_input_grad[2:], strict=True)
            ),
        )


def fill(input: Tensor, value: Tensor | float) -> Tensor:
    """The number ``value`` in the shape of ``input``; as ``torch.fill``.

    Args:
        input: any shape
        value: a number, or a tensor without axes

    Raises:
        RuntimeError: From torch, for a value with axes.
    """
    return FillFunction.apply(input, value)


def fill_(input: Tensor, value: Tensor | float) -> Tensor:
    """``fill`` in place; as ``Tensor.fill_``."""
    if nothing_to_do(input, value):
        return torch.Tensor.fill_(input, value)
    if isinstance(value, Tensor):
        return OverwriteFunction.apply(input, value, "fill_", (), {})
    return OverwriteFunction.apply(input, None, "fill_", (value,), {})


def _written_by(method: str) -> Callable[..., Tensor]:
    """The face of a method that writes over its tensor with what does not depend on it."""

    def write(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if nothing_to_do(input):
            return getattr(torch.Tensor, method)(input, *args, **kwargs)
        return OverwriteFunction.apply(input, None, method, args, kwargs)

    return write


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: torch.Generator | None = None
) -> Tensor:
    """1 with a probability, else 0; as ``torch.bernoulli``.

    Args:
        input: the probabilities, any shape
        p: one probability for all, instead
        generator: of the random numbers

    Raises:
        RuntimeError: From torch, for what is no probability.
    """
    probability = () if p is None else (p,)
    return DrawFunction.apply("bernoulli", {"generator": generator}, input, *probability)


def normal(mean: Tensor | float, std: Tensor | float = 1.0, *args: Any, **kwargs: Any) -> Tensor:
    """Normal numbers of a mean and a standard deviation each; as ``torch.normal``.

    Args:
        mean: any shape, or a number
        std: any shape of as many elements, at least 0; or a number
        args: the size, for two numbers
        kwargs: ``generator``, and with a size ``dtype`` and so on

    Raises:
        RuntimeError: From torch, where a ``std`` is negative or shapes do not fit.
    """
    return DrawFunction.apply("normal", kwargs, mean, std, *args)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw())
    yield sample(draw(4, 3), 2.5, label="a number")


def _bernoulli_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3).requires_grad_())


def _normal_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 3).requires_grad_())
    yield sample(draw(4, 3), 0.5, label="one deviation")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(2), label="a value with an axis")


def _bernoulli_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=1.5, high=2.0), label="above 1")


FILL = Spec(
    name="fill",
    formula="y_i = v",
    gradient="dx = 0,  dv = sum_i dy_i",
    manual=fill,
    native=torch.fill,
    inplace={torch.Tensor.fill_: fill_, torch.fill_: fill_}
    | {
        method: _written_by(method.__name__)
        for method in (
            torch.zero_,
            torch.Tensor.zero_,
            torch.Tensor.bernoulli_,
            torch.Tensor.cauchy_,
            torch.Tensor.exponential_,
            torch.Tensor.geometric_,
            torch.Tensor.log_normal_,
            torch.Tensor.normal_,
            torch.Tensor.random_,
            torch.Tensor.uniform_,
        )
    },
    samples=_samples,
    refused=_refused,
)
BERNOULLI = Spec(
    name="bernoulli",
    formula="y_i = 1 with probability x_i, else 0",
    gradient="dx = 0",
    manual=bernoulli,
    native=torch.bernoulli,
    overrides=(torch.Tensor.bernoulli,),
    samples=_bernoulli_samples,
    refused=_bernoulli_refused,
    random=True,
)
NORMAL = Spec(
    name="normal",
    formula="y_i = a normal number of mean m_i and deviation s_i",
    gradient="dm = 0,  ds = 0",
    manual=normal,
    native=torch.normal,
    samples=_normal_samples,
    random=True,
)
