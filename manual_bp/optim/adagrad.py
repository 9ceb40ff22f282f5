"""AdaGrad: a learning rate per coordinate that shrinks with the gradients seen so far."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from manual_bp.optim.lists import Tensors
from manual_bp.optim.rule import Params, UpdateRule, require_nonnegative, require_scalar


class Adagrad(UpdateRule):
    """AdaGrad.

    With lr, gamma (``lr_decay``), lam (``weight_decay``) and eps, at step t, coordinate by
    coordinate::

        g     = grad + lam theta
        s_t   = s_(t-1) + g^2                   s_0 = initial_accumulator_value
        lr_t  = lr / (1 + gamma (t - 1))
        theta = theta - lr_t g / (sqrt(s_t) + eps)

    The sum s never shrinks, so the steps go like 1/sqrt(t): good for sparse and convex problems,
    slow late in the training of a network. For a sparse gradient only the rows it holds are
    touched, which changes nothing: where g is zero the rule does not move.

    Sources:
        Duchi, Hazan, Singer 2011, Adaptive subgradient methods for online learning and stochastic
        optimization, figure 1, with the diagonal matrix of section 3.

    Args:
        params: Parameters, named parameters, or dicts that define parameter groups.
        lr: Step size; a tensor of one element is read at each step.
        lr_decay: gamma, a further decay of the rate, zero in the paper.
        weight_decay: lam, the factor of the L2 penalty ``lam/2 |theta|^2``.
        initial_accumulator_value: s_0. A group's own value is used for that group.
        eps: Keeps the division finite.
        foreach: False steps by ``formula``, True and None by ``in_place``.
        maximize: Ascend.
        differentiable: Only False.
        fused: Only False or None.

    Raises:
        ValueError: A negative value; a tensor lr of more than one element.
        NotImplementedError: ``differentiable`` or ``fused`` is true.
        RuntimeError: In ``step``, for a sparse gradient together with weight_decay or with a
            complex parameter.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        require_scalar(lr=lr)
        require_nonnegative(
            {
                "learning rate": lr,
                "lr_decay value": lr_decay,
                "weight_decay value": weight_decay,
                "initial_accumulator_value value": initial_accumulator_value,
                "epsilon value": eps,
            }
        )
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "fused": fused,
            },
        )
        # torch makes the sums here and not at the first step, so that share_memory() finds them.
        for group in self.param_groups:
            for p in group["params"]:
                self._remembered(p, group)

    def share_memory(self) -> None:
        """Move the sums to memory that other processes see."""
        for state in self.state.values():
            state["sum"].share_memory_()

    def state_names(self, h: Mapping[str, Any]) -> tuple[str, ...]:
        """Name s."""
        return ("sum",)

    def initial_value(self, name: str, h: Mapping[str, Any]) -> float | None:
        """Return s_0."""
        return h["initial_accumulator_value"]

    def formula(
        self, theta: Tensor, g: Tensor, past: Mapping[str, Any], h: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -lr_t g / (sqrt(s_t) + eps) and s_t."""
        t, lr, gamma, lam, eps = past["step"], h["lr"], h["lr_decay"], h["weight_decay"], h["eps"]
        if lam != 0:
            g = g + lam * theta
        s = past["sum"] + g**2
        lr_t = lr / (1 + gamma * (t - 1))
        return -lr_t * g / (s.sqrt() + eps), {"sum": s}

    def in_place(
        self,
        theta: Tensors,
        g: Tensors,
        past: list[dict[str, Any]],
        h: Mapping[str, Any],
    ) -> None:
        """Step lists of parameters and sums."""
        lr, gamma, lam, eps = h["lr"], h["lr_decay"], h["weight_decay"], h["eps"]
        if lam != 0:
            g = torch._foreach_add(g, theta, alpha=lam)
        s = [state["sum"] for state in past]
        torch._foreach_addcmul_(s, g, g)
        root = torch._foreach_sqrt(s)
        torch._foreach_add_(root, eps)
        factors = [-lr / (1 + gamma * (state["step"].item() - 1)) for state in past]
        torch._foreach_addcdiv_(theta, g, root, factors)

    def sparse_objection(self, p: Tensor, h: Mapping[str, Any]) -> str | None:
        """Object to weight decay, which is dense, and to complex parameters."""
        if p.is_complex():
            return "Adagrad does not support sparse gradients of complex parameters"
        if h["weight_decay"] != 0:
            return "weight_decay option is not compatible with sparse gradients"
        return None

    def sparse_step(
        self, p: Tensor, g: Tensor, state: dict[str, Any], h: Mapping[str, Any]
    ) -> None:
        """Gather the rows that the gradient holds, step them by the formula, put them back."""
        g = g.coalesce()  # g^2 needs the sum of repeated rows first
        rows = tuple(g.indices())
        past = {"step": state["step"].item(), "sum": state["sum"][rows]}
        delta, new = self.formula(p[rows], g.values(), past, h)
        p.index_put_(rows, delta, accumulate=True)
        state["sum"].index_put_(rows, new["sum"])
