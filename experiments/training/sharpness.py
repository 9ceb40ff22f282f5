r"""The sharpness: the largest eigenvalue of the Hessian of the training loss.

It is the curvature of the steepest valley wall. On a quadratic, gradient descent with the rate
``eta`` multiplies what lies along the eigenvector of ``lambda`` by ``1 - eta lambda`` at each step,
so it diverges as soon as ``eta lambda > 2``: Cohen, Kaur, Li, Kolter & Talwalkar (2021), "Gradient
descent on neural networks typically occurs at the edge of stability" (arXiv:2103.00065), section 2.
"""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training import whole
from experiments.training.recording import Curves
from lightning_modules import Learner


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    tolerance: float = 1e-3,
    iterations: int = 40,
) -> tuple[float, Tensor]:
    """The algebraically largest eigenvalue of a symmetric matrix, by Lanczos's method.

    Each product adds a direction to a basis in which the matrix is tridiagonal; the largest
    eigenvalue of that small matrix is at most, and soon almost, that of the large one. Golub & Van
    Loan (2013), "Matrix Computations", section 10.1. Against power iteration it takes a fraction of
    the products, and tells how far it is: an eigenvalue lies within the residual.

    Args:
        product: From v to H v, (P,) to (P,).
        start: Not zero, (P,); the last eigenvector, where the matrix has changed little.
        tolerance: Stop once the residual is this small beside the value.
        iterations: The most products that are computed.

    Returns:
        The eigenvalue, NaN where a product is not finite; and its eigenvector, (P,) of length 1.
    """
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    value, weights = torch.tensor(torch.nan), torch.ones(1).to(start)
    for _ in range(min(iterations, len(start))):
        w = product(basis[-1])
        if not w.isfinite().all():
            return float("nan"), basis[0]
        diagonal.append(basis[-1] @ w)
        for _ in range(2):  # once is not enough to stay orthogonal in floating point
            known = torch.stack(basis)
            w = w - known.T @ (known @ w)
        small = torch.diag(torch.stack(diagonal))
        if beside:
            off = torch.stack(beside)
            small = small + torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors = torch.linalg.eigh(small)
        value, weights = values[-1], vectors[:, -1]
        length = w.norm()
        if length * weights[-1].abs() <= tolerance * value.abs():
            break
        beside.append(length)
        basis.append(w / length)
    vector = weights @ torch.stack(basis[: len(weights)])
    return float(value), vector / vector.norm()


class Sharpness(Curves):
    """Keeps the sharpness of the loss over the whole training part, while it trains.

    The curves are ``sharpness/step`` (how many steps had been taken), ``sharpness/value``, and,
    one number, ``sharpness/error``: the relative difference between H v by hand and by autograd at
    the end, at the same weights, for the eigenvector v.

    The module must be a :class:`~lightning_modules.Learner`, with a data module in memory.

    Args:
        every_n_steps: Before steps 0, n, 2n, ... it is measured, and at the end; 0 for the end
            alone.
        tolerance: Relative; see :func:`largest_eigenvalue`.

    Raises:
        ValueError: every_n_steps is negative, or the tolerance not positive.
    """

    def __init__(self, every_n_steps: int = 0, tolerance: float = 1e-3) -> None:
        super().__init__()
        if every_n_steps < 0:
            raise ValueError(f"every_n_steps must be 0 or positive, got {every_n_steps}")
        if not tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {tolerance}")
        self.every_n_steps = every_n_steps
        self.tolerance = tolerance
        self._steps: list[int] = []
        self._values: list[float] = []
        self._vector: Tensor | None = None
        self._error = float("nan")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure at every n-th step."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure at the end, and compare with autograd there."""
        product = self._measure(trainer, pl_module)
        assert isinstance(pl_module, Learner) and self._vector is not None
        other = whole.hessian_products(
            pl_module.counterpart(), whole.training_part(trainer, pl_module)
        )
        ours, theirs = product(self._vector), other(self._vector)
        self._error = float((ours - theirs).norm() / theirs.norm())

    def curves(self) -> dict[str, list[float]]:
        """All of it."""
        return {
            "sharpness/step": [float(step) for step in self._steps],
            "sharpness/value": self._values,
            "sharpness/error": [self._error],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far, and the last eigenvector."""
        return {
            "steps": torch.tensor(self._steps),
            "values": torch.tensor(self._values, dtype=torch.float64),
            "vector": self._vector,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._steps = state_dict["steps"].tolist()
        self._values = state_dict["values"].tolist()
        self._vector = state_dict["vector"]

    def _measure(
        self, trainer: pl.Trainer, module: pl.LightningModule
    ) -> Callable[[Tensor], Tensor]:
        assert isinstance(module, Learner), f"Sharpness needs a Learner, got {module!r}"
        product = whole.hessian_products(module, whole.training_part(trainer, module))
        if trainer.global_step not in self._steps[-1:]:
            value, vector = largest_eigenvalue(product, self._start(module), self.tolerance)
            self._steps.append(trainer.global_step)
            self._values.append(value)
            self._vector = vector
        return product

    def _start(self, module: Learner) -> Tensor:
        """The last eigenvector, which is near the next; a random vector at first."""
        like = next(module.parameters())
        if self._vector is not None:
            return self._vector.to(like)
        count = sum(p.numel() for p in whole.trained(module))
        return torch.randn(count, generator=torch.Generator().manual_seed(0)).to(like)
