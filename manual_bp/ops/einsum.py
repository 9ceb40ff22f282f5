r"""Einstein summation: products of tensors, summed over the indices that the result lacks.

Forward, each tensor with its indices; for example ``einsum("ik,kj->ij", x, y)``::

    z_(out) = sum over the other indices of  x_(term 1) y_(term 2) ...

Backward. Each product is met once per value of its indices, so each gradient is the same sum with
the roles of result and operand exchanged::

    dL/dx_(term 1) = sum over the indices not in term 1 of  dL/dz_(out) y_(term 2) ...

which is itself an einsum. Two things are put right first. An index that stands in term 1 alone was
summed over without meeting anything: a tensor of ones carries it. An index that stands twice in
term 1 reads a diagonal: the identity matrix writes it back. An axis of size 1 that was repeated is
left out of the result, so that it is summed over.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.mul import mul
from manual_bp.ops.view import unsqueeze
from manual_bp.spec import Draw, Sample, Spec, sample


def _explicit(equation: str, operands: tuple[Tensor, ...]) -> tuple[list[str], str]:
    """The terms and the result with a letter for each axis: no ``...``, no implied result."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    # How many axes the dots of a term stand for.
    ranks = [
        operand.dim() - len(term.replace("...", "")) if "..." in term else 0
        for term, operand in zip(terms, operands, strict=True)
    ]
    longest = max(ranks)
    dots = "".join(free[:longest])
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        out = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    terms = [
        term.replace("...", dots[longest - rank :]) for term, rank in zip(terms, ranks, strict=True)
    ]
    return terms, out.replace("...", dots)


class EinsumFunction(Function):
    """``terms``, ``out``: a letter for each axis; ``operands``: a tensor for each term."""

    @staticmethod
    def forward(terms: str, out: str, *operands: Tensor) -> Tensor:
        return torch.einsum(f"{terms}->{out}", *operands)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        terms, ctx.out, *operands = inputs
        ctx.terms = terms.split(",")
        ctx.save_for_backward(*operands)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        operands, terms = ctx.saved_tensors, ctx.terms
        sizes: dict[str, int] = {}
        for term, operand in zip(terms, operands, strict=True):
            for letter, size in zip(term, operand.shape, strict=True):
                sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
        grads = [
            _gradient(k, terms, ctx.out, operands, grad_z, sizes) if wanted else None
            for k, wanted in enumerate(ctx.needs_input_grad[2:])
        ]
        return None, None, *grads


def _gradient(
    k: int,
    terms: list[str],
    out: str,
    operands: tuple[Tensor, ...],
    grad_z: Tensor,
    sizes: dict[str, int],
) -> Tensor:
    """The gradient of operand ``k``, as one einsum."""
    x = operands[k]
    factors = [(out, grad_z)]
    factors += [(terms[j], operands[j].conj()) for j in range(len(terms)) if j != k]
    met = set("".join(term for term, _ in factors))
    free = iter([letter for letter in string.ascii_letters if letter not in sizes])
    target, shape = "", []
    for letter, size in zip(terms[k], x.shape, strict=True):
        if size != sizes[letter]:
            continue  # of size 1, and repeated
        shape.append(size)
        if letter in target:
            twin = next(free)
            factors.append((letter + twin, torch.eye(size, dtype=x.dtype, device=x.device)))
            target += twin
            continue
        if letter not in met:
            factors.append((letter, grad_z.new_ones(size)))
        target += letter
    equation = ",".join(term for term, _ in factors) + "->" + target
    # Under autocast the operands may differ in dtype, from each other and from the result.
    wide = reduce(torch.promote_types, [operand.dtype for operand in operands])
    grad_x = torch.einsum(equation, *(factor.to(wide) for _, factor in factors))
    # What it met may have been of size 1 there.
    return grad_x.expand(shape).reshape(x.shape).to(x.dtype)


@under_autocast("lower", devices=("cuda",))
def _einsum(terms: str, out: str, *operands: Tensor) -> Tensor:
    return EinsumFunction.apply(terms, out, *operands)


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products after Einstein, with its gradients by hand; as ``torch.einsum``.

    Args:
        equation: such as "ik,kj->ij", with ``...`` for axes that broadcast; tensors in between
            lists of integers, in its place, are left to autograd
        operands: a tensor for each term, or one list of them

    Raises:
        RuntimeError: From torch, where terms and axes do not fit.
    """
    if not isinstance(equation, str):
        return torch.einsum(equation, *operands)
    tensors = tuple(operands[0] if isinstance(operands[0], (list, tuple)) else operands)
    if equation.partition("->")[0].count(",") + 1 != len(tensors):
        return torch.einsum(equation, *tensors)  # which says what is wrong
    terms, out = _explicit(equation, tensors)
    if [len(term) for term in terms] != [t.dim() for t in tensors]:
        return torch.einsum(equation, *tensors)  # likewise
    return _einsum(",".join(terms), out, *tensors)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """``z_ij = x_i y_j``; as ``torch.outer``.

    Args:
        input: (I)
        vec2: (J)

    Returns:
        (I, J)

    Raises:
        RuntimeError: From torch, where one is not a vector.
    """
    if input.dim() != 1 or vec2.dim() != 1:
        return torch.outer(input, vec2)
    return mul(unsqueeze(input, 1), vec2)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
    """Products summed over some axes of ``a`` and ``b``; as ``torch.tensordot``.

    Args:
        a: any shape
        b: any shape
        dims: how many of the last axes of ``a`` meet the first of ``b``, or a list of axes of each
        out: where to write to, without gradients
    """
    if out is not None or isinstance(dims, Tensor) or max(a.dim(), b.dim()) > 20:
        return torch.tensordot(a, b, dims, out)
    if isinstance(dims, int):
        dims = range(a.dim() - dims, a.dim()), range(dims)
    summed_a, summed_b = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(summed_a) != len(summed_b):
        return torch.tensordot(a, b, dims)
    left = list(string.ascii_lowercase[: a.dim()])
    right = list(string.ascii_uppercase[: b.dim()])
    result = [c for i, c in enumerate(left) if i not in {d % a.dim() for d in summed_a}]
    result += [c for i, c in enumerate(right) if i not in {d % b.dim() for d in summed_b}]
    for i, j in zip(summed_a, summed_b, strict=True):
        right[j] = left[i]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(result)}", a, b)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Products summed over the last axes; as ``torch.inner``."""
    if input.dim() == 0 or other.dim() == 0:
        return mul(input, other)
    return tensordot(input, other, ([-1], [-1]))


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample("ik,kj->ij", draw(4, 3), draw(3, 5))
    yield sample("bhqd,bhkd->bhqk", draw(2, 3, 4, 5), draw(2, 1, 6, 5), label="repeated axis")
    yield sample("...i,...ij->...j", draw(2, 1, 3), draw(4, 3, 5), label="dots")
    yield sample("ii->i", draw(3, 3), label="diagonal")
    yield sample("iij,kj", draw(3, 3, 2), draw(4, 2), label="trace, implied result")
    yield sample("ij->j", draw(4, 3), label="sum")
    yield sample("i,j,ij->", draw(4), draw(3), draw(4, 3), label="three")
    yield sample("ij,ij->i", draw(4, 3), draw(4, 1), label="repeated and summed")
    yield sample("ijk,jl->il", draw(2, 3, 4), draw(3, 5), label="an index alone")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample("ik,kj->ij", draw(4, 3), draw(4, 5), label="sizes differ")
    yield sample("ik,kj->ij", draw(4, 3), draw(4), label="axes differ")
    yield sample("ik,kj->ij", draw(4, 3), label="a term too many")


def _outer_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), draw(3))


def _tensordot_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4), draw(3, 4, 5))
    yield sample(draw(2, 3, 4), draw(4, 2, 5), dims=([0, -1], [1, 0]), label="axes")
    yield sample(draw(2), draw(3), dims=0, label="none")


def _inner_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(2, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample("bqd,bkd->bqk", draw(8, 32, 32), draw(8, 32, 32))
    yield sample("bqd,bkd->bqk", draw(32, 64, 128), draw(32, 64, 128))


EINSUM = Spec(
    name="einsum",
    formula="z_(out) = sum of x_(term 1) y_(term 2) ...",
    gradient="dx_(term 1) = sum of dz_(out) y_(term 2) ...",
    manual=einsum,
    native=torch.einsum,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
OUTER = Spec(
    name="outer",
    formula="z_ij = x_i y_j",
    gradient="dx_i = sum_j dz_ij y_j,  dy_j = sum_i dz_ij x_i",
    manual=outer,
    native=torch.outer,
    overrides=(torch.Tensor.outer, torch.ger, torch.Tensor.ger),
    samples=_outer_samples,
)
TENSORDOT = Spec(
    name="tensordot",
    formula="z = sum over the axes that meet of x y",
    gradient="einsum's",
    manual=tensordot,
    native=torch.tensordot,
    samples=_tensordot_samples,
)
INNER = Spec(
    name="inner",
    formula="z_ij = sum_k x_ik y_jk",
    gradient="dx_ik = sum_j dz_ij y_jk,  dy_jk = sum_i dz_ij x_ik",
    manual=inner,
    native=torch.inner,
    overrides=(torch.Tensor.inner,),
    samples=_inner_samples,
)
