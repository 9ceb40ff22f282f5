"""The head in chunks, against the plain one: all that torch's own chunks cannot be asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from manual_bp.conformance import assert_equivalent
from manual_bp.functional import linear_cross_entropy
from manual_bp.spec import Draw

IN_CHUNKS = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2)

draw = Draw()
LABEL = draw.integers(3, 5)
CLASS_WEIGHT = draw.uniform(3, low=0.5)

CASES: list[dict[str, Any]] = [
    {},
    {"reduction": "none", "ignore_index": 1},
    {"reduction": "sum", "weight": CLASS_WEIGHT},
    {"ignore_index": 1, "weight": CLASS_WEIGHT, "label_smoothing": 0.3},
]


def in_chunks(x: Tensor, w: Tensor, bias: Tensor | None, **kwargs: Any) -> Tensor:
    return linear_cross_entropy(x, w, LABEL, linear_bias=bias, options=IN_CHUNKS, **kwargs)


def plain(x: Tensor, w: Tensor, bias: Tensor | None, **kwargs: Any) -> Tensor:
    return cross_entropy(linear(x, w, bias), LABEL, **kwargs)


def operands() -> tuple[Tensor, ...]:
    draw = Draw(1)
    return draw(5, 4), draw(3, 4), draw(3)


@pytest.mark.parametrize("kwargs", CASES, ids=["mean", "none", "sum", "smoothed"])
def test_first_and_second_order(kwargs: dict[str, Any]) -> None:
    found, expected = (_orders(f, kwargs) for f in (in_chunks, plain))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def _orders(f: Any, kwargs: dict[str, Any]) -> list[list[Tensor]]:
    inputs = operands()
    loss = f(*inputs, **kwargs)
    cotangent = Draw(2)(*loss.shape)
    quick = torch.autograd.grad(loss, inputs, cotangent, retain_graph=True)
    first = torch.autograd.grad(loss, inputs, cotangent, create_graph=True)
    weights = [Draw(3 + i).fixed(*g.shape) for i, g in enumerate(first)]
    second = torch.autograd.grad(first, (*inputs, cotangent), weights)
    return [[loss], list(quick), list(first), list(second)]


def test_one_gradient_at_a_time() -> None:
    cotangent = Draw(2).fixed(shift=1.0)
    for wanted in range(3):
        inputs = [t.detach().requires_grad_(i == wanted) for i, t in enumerate(operands())]
        (found,) = torch.autograd.grad(in_chunks(*inputs), inputs[wanted], cotangent)
        (expected,) = torch.autograd.grad(plain(*inputs), inputs[wanted], cotangent)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_under_autocast() -> None:
    inputs = [t.detach().float().requires_grad_() for t in operands()]
    results = []
    for f in (in_chunks, plain):
        with torch.autocast("cpu", torch.bfloat16):
            loss = f(*inputs)
        cotangent = Draw(2, loss.dtype).fixed(shift=1.0)
        results.append([loss, *torch.autograd.grad(loss, inputs, cotangent)])
    assert [t.dtype for t in results[0]] == [t.dtype for t in results[1]]
    torch.testing.assert_close(*results, rtol=4e-2, atol=4e-2)


def test_batched_by_vmap() -> None:
    batch = [torch.stack([t, 0.5 * t, t + 0.1]) for t in (u.detach() for u in operands())]
    every = (0, 1, 2)
    found = torch.func.vmap(torch.func.grad(in_chunks, every))(*batch)
    expected = torch.func.vmap(torch.func.grad(plain, every))(*batch)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_from_all_sides() -> None:
    x, weight, _ = operands()
    assert_equivalent(
        lambda x, w: in_chunks(x, w, None),
        lambda x, w: plain(x, w, None),
        x,
        weight,
    )
