"""What of linear algebra the samples of the specs cannot say: phases, symmetry, singular matrices.

A spec's samples are compared with autograd under random cotangents, which a complex eigenvector
does not take, and where torch's own backward is right, which it is not everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._pytree import tree_leaves

import manual_bp
from manual_bp import coverage
from manual_bp.ops.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from manual_bp.ops.det import det
from manual_bp.ops.eig import eig, eigvals
from manual_bp.ops.eigh import eigh, eigvalsh
from manual_bp.ops.matrix_norm import cond
from manual_bp.ops.pinv import lstsq, pinv
from manual_bp.ops.svd import svd, svdvals
from manual_bp.ops.vander import vander
from manual_bp.spec import Draw

DTYPES = [torch.float64, torch.complex128]


def _draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return Draw(seed, dtype)(*shape)


def _hermitian(x: Tensor) -> Tensor:
    return x + x.mH


def _positive(x: Tensor) -> Tensor:
    return x @ x.mH + torch.eye(x.shape[-1], dtype=x.dtype)


def _without_phase(V: Tensor) -> Tensor:
    """The projections v v^H, one for each column, which no phase changes."""
    columns = V.mT.unsqueeze(-1)
    return columns @ columns.mH


# Each as a function of any matrix, so that a numerical derivative stays among its arguments.
OF_SYMMETRIC: dict[str, Callable[[Tensor], Any]] = {
    "cholesky": lambda x: cholesky(_positive(x)),
    "cholesky_ex, upper": lambda x: cholesky_ex(_positive(x), upper=True)[0],
    "cholesky_solve": lambda x: cholesky_solve(x, cholesky(_positive(x))),
    "cholesky_inverse": lambda x: cholesky_inverse(cholesky(_positive(x), True), True),
    "eigh": lambda x: (values := eigh(_hermitian(x)))[0] + _without_phase(values[1]).sum(),
    "eigh, vectors": lambda x: _without_phase(eigh(_hermitian(x), "U")[1]),
    "eigvalsh": lambda x: eigvalsh(_hermitian(x)),
    "eig": lambda x: _without_phase(eig(x)[1]),
    "eigvals": lambda x: eigvals(x),
    "svd": lambda x: (_without_phase(svd(x)[0]), svd(x)[1]),
    "svd, right vectors": lambda x: _without_phase(svd(x, False)[2].mH),
    "svd, both": lambda x: (both := svd(x, False))[0] @ both[2],
    "svdvals": lambda x: svdvals(x),
    "pinv, hermitian": lambda x: pinv(_hermitian(x), hermitian=True),
    "pinv, tolerances": lambda x: pinv(x, atol=1e-9, rtol=torch.tensor(1e-12)),
    # Of these torch's own backward raises: it has written into its result.
    "vander": lambda x: vander(x[0], N=4),
    "vander, increasing": lambda x: vander(x[0], increasing=True),
    "cond, 1": lambda x: cond(x, 1),
    "cond, nuc": lambda x: cond(x, "nuc"),
    "cond, fro": lambda x: cond(x, "fro"),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("name", OF_SYMMETRIC)
def test_gradcheck(name: str, dtype: torch.dtype) -> None:
    x = _draw(3, 3, dtype=dtype, seed=3)
    assert gradcheck(OF_SYMMETRIC[name], (x,), atol=1e-5)
    assert gradgradcheck(OF_SYMMETRIC[name], (x,), atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)], ids=["tall", "wide"])
def test_oblong_svd_and_least_squares(shape: tuple[int, int], dtype: torch.dtype) -> None:
    A, B = _draw(*shape, dtype=dtype), _draw(shape[0], 2, dtype=dtype, seed=1)

    def product(A: Tensor) -> Tensor:
        U, s, Vh = svd(A, full_matrices=False)
        return (U * s.sin().unsqueeze(-2)) @ Vh

    assert gradcheck(product, (A,))
    assert gradgradcheck(product, (A,), fast_mode=True)
    # A driver that has residuals leaves them empty where there are none.
    outputs = slice(0, 2 if shape[0] > shape[1] else 1)
    assert gradcheck(lambda A, B: lstsq(A, B, driver="gelsd")[outputs], (A, B))
    assert gradgradcheck(lambda A, B: lstsq(A, B)[0], (A, B), fast_mode=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: f["svd"](x)[0],
        lambda f, x: f["svd"](x)[2],
        lambda f, x: f["eigh"](x + x.mH)[1],
        lambda f, x: f["eig"](x)[1],
        lambda f, x: f["eig"]((x - x.mT).real)[1],
    ],
    ids=["left vectors", "right vectors", "eigh", "eig", "eig of a real matrix"],
)
def test_a_loss_that_depends_on_a_phase_is_refused_as_torch_refuses_it(
    call: Callable[[dict[str, Any], Tensor], Tensor],
) -> None:
    x = _draw(3, 3, dtype=torch.complex128)
    native = {"svd": torch.linalg.svd, "eigh": torch.linalg.eigh, "eig": torch.linalg.eig}
    cotangent = _draw(3, 3, dtype=torch.complex128, seed=1).detach()
    with pytest.raises(RuntimeError) as expected:
        call(native, x).backward(cotangent)
    with pytest.raises(RuntimeError) as found:
        call({"svd": svd, "eigh": eigh, "eig": eig}, x).backward(cotangent)
    assert str(found.value) == str(expected.value)


def _of_rank(rank: int, n: int = 4) -> Tensor:
    return (_draw(n, rank).detach() @ _draw(rank, n, seed=1).detach()).requires_grad_()


@pytest.mark.parametrize(
    "A",
    [
        torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)).requires_grad_(),
        torch.zeros(1, 1, dtype=torch.float64, requires_grad=True),
        torch.zeros(3, 3, dtype=torch.float64, requires_grad=True),
        _of_rank(3),
        torch.stack([_of_rank(3), _draw(4, 4)]).detach().requires_grad_(),
    ],
    ids=["a zero pivot", "a zero", "zeros", "rank n - 1", "beside another"],
)
def test_the_determinant_of_a_singular_matrix_has_a_gradient(A: Tensor) -> None:
    """Of an exactly singular one torch's own first order is 0, whatever the truth is."""
    assert gradcheck(det, (A,))


def test_the_determinant_of_a_singular_matrix_has_a_second_derivative() -> None:
    assert gradgradcheck(det, (_of_rank(3),), fast_mode=True)


A, S = _draw(4, 4, seed=5), _positive(_draw(4, 4).detach()).requires_grad_()
B, ROW = _draw(4, 2, seed=6), _draw(4, seed=7)

# Those that torch.linalg has other names for, and those that are made of others.
OLD_NAMES: dict[str, Callable[[], Any]] = {
    "qr": lambda: torch.qr(A, some=False),
    "cholesky": lambda: S.cholesky(upper=True),
    "svd": lambda: torch.svd(B, some=True),
    "svd, values alone": lambda: B.svd(compute_uv=False),
    "lu": lambda: torch.lu(A, get_infos=True),
    "lu_solve": lambda: torch.lu_solve(B, *A.lu()),
    "triangular_solve": lambda: torch.triangular_solve(B, A, upper=False, transpose=True),
    "inverse": lambda: A.inverse(),
    "det": lambda: A.det() + S.logdet() + A.slogdet()[1],
    "pinverse": lambda: B.pinverse(),
    "matrix_power": lambda: A.matrix_power(3),
    "matrix_exp": lambda: A.matrix_exp(),
    "chain_matmul": lambda: torch.chain_matmul(A, B, B.T, A),
    "orgqr": lambda: torch.orgqr(A, ROW),
    "nuclear norm": lambda: torch.norm(A, p="nuc"),
    "svd_lowrank": lambda: torch.svd_lowrank(A, q=2)[1],
}


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_names_are_by_hand(name: str) -> None:
    def outputs() -> list[Tensor]:
        torch.manual_seed(0)
        leaves = tree_leaves(OLD_NAMES[name]())
        return [y for y in leaves if isinstance(y, Tensor) and y.requires_grad]

    expected = outputs()
    with manual_bp.by_hand():
        found = outputs()
    assert (report := manual_bp.audit(found)).all_by_hand, report
    cotangents = [_draw(*y.shape, seed=i).detach() for i, y in enumerate(found)]
    leaves = (A, S, B, ROW)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves, cotangents, allow_unused=True),
        torch.autograd.grad(expected, leaves, cotangents, allow_unused=True),
        rtol=1e-9,
        atol=1e-11,
    )


COMPLEX = [
    op
    for op in coverage._registry("common_methods_invocations", "op_db")
    if op.name.startswith(("linalg.", "cholesky", "lu", "qr", "svd", "ormqr", "matrix_exp"))
    and op.supports_autograd
    and torch.complex128 in op.dtypes
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op", COMPLEX, ids=lambda op: f"{op.name} {op.variant_test_name}")
def test_gradients_on_torchs_complex_samples(op: Any) -> None:
    for s in islice(op.sample_inputs("cpu", torch.complex128, requires_grad=True), 3):

        def call(s: Any = s) -> Any:
            result = op(s.input, *s.args, **s.kwargs)
            return s.output_process_fn_grad(result) if s.output_process_fn_grad else result

        leaves = tree_leaves((s.input, s.args, s.kwargs))
        wanted = [a for a in leaves if isinstance(a, Tensor) and a.requires_grad]
        assert coverage.examine(coverage.Run(call, wanted)).error < 1e-8
