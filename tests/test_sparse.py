"""Sparse tensors by hand: against torch's own, and what is left to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import manual_bp
from manual_bp.spec import Draw

DRAW = Draw(2)
# Of a graph with five edges, one of which is there twice.
EDGES = torch.tensor([[0, 1, 3, 3, 3], [2, 0, 1, 1, 2]])
WEIGHTS = DRAW.fixed(5)
FEATURES = DRAW.fixed(3, 2)
COTANGENT = DRAW.fixed(4, 2)


def _graph() -> Tensor:
    return torch.sparse_coo_tensor(EDGES, WEIGHTS, (4, 3), check_invariants=True).requires_grad_()


def _product(a: Tensor, x: Tensor) -> Tensor:
    return torch.sparse.mm(a, x)


def _there_and_back(a: Tensor, x: Tensor) -> Tensor:
    return a.to_dense() @ (x * x).to_sparse().to_dense()


def _rows(a: Tensor, x: Tensor) -> Tensor:
    return a.to_dense() @ x.to_sparse(1).to_dense()


@pytest.mark.parametrize("run", [_product, _there_and_back, _rows])
def test_gradients_equal_autograds(run: object) -> None:
    assert callable(run)
    a, x = _graph(), FEATURES.clone().requires_grad_()
    g = COTANGENT.clone().requires_grad_()
    y = run(a, x)
    expected = torch.autograd.grad(y, (a, x), g, create_graph=True)
    second = torch.autograd.grad(expected[1].sin().sum(), g)
    with manual_bp.by_hand():
        z = run(a, x)
    assert (report := manual_bp.audit(z)).all_by_hand, report
    found = torch.autograd.grad(z, (a, x), g, create_graph=True)
    torch.testing.assert_close(z, y, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, expected, strict=True):
        assert one.layout == other.layout
        torch.testing.assert_close(one.to_dense(), other.to_dense(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found[1].sin().sum(), g), second)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
def test_products_in_compressed_rows(reduce: str) -> None:
    rows = _graph().detach().to_sparse_csr().requires_grad_()
    x = FEATURES.clone().requires_grad_()
    y = torch.sparse.mm(rows, x, reduce)
    expected = torch.autograd.grad(y, (rows, x), COTANGENT)
    with manual_bp.by_hand():
        z = torch.sparse.mm(rows, x, reduce)
    assert (report := manual_bp.audit(z)).all_by_hand, report
    found = torch.autograd.grad(z, (rows, x), COTANGENT)
    torch.testing.assert_close(z, y, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, expected, strict=True):
        assert one.layout == other.layout
        torch.testing.assert_close(one.to_dense(), other.to_dense(), rtol=1e-12, atol=1e-12)


def test_only_the_stored_places_get_a_gradient() -> None:
    a = _graph()
    with manual_bp.by_hand():
        y = torch.sparse.mm(a, FEATURES)
    (grad_a,) = torch.autograd.grad(y, a, COTANGENT)
    assert grad_a.layout == torch.sparse_coo
    assert grad_a.coalesce().indices().tolist() == a.detach().coalesce().indices().tolist()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
def test_other_layouts_are_left_to_autograd() -> None:
    x = FEATURES.clone().requires_grad_()
    rows = _graph().detach().to_sparse_csr()
    with manual_bp.by_hand():
        y = torch.sparse.mm(rows, x)
    assert not manual_bp.audit(y).by_hand
    (found,) = torch.autograd.grad(y, x, COTANGENT)
    torch.testing.assert_close(found, rows.to_dense().T @ COTANGENT)


def test_sizes_that_do_not_fit_are_refused() -> None:
    x = DRAW(4, 2)
    with pytest.raises(RuntimeError) as native:
        torch.sparse.mm(_graph(), x)
    with pytest.raises(RuntimeError) as manual, manual_bp.by_hand():
        torch.sparse.mm(_graph(), x)
    assert str(manual.value) == str(native.value)
