"""Gradient descent, with the momentum of Polyak or of Nesterov."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from manual_bp.optim.lists import Tensors, scale_
from manual_bp.optim.rule import Params, UpdateRule, require_nonnegative, require_scalar


class SGD(UpdateRule):
    """Stochastic gradient descent, with or without momentum.

    With lr, mu (``momentum``), tau (``dampening``) and lam (``weight_decay``), at step t::

        g     = grad + lam theta
        b_t   = mu b_(t-1) + (1 - tau) g        b_1 = g
        d     = g              mu = 0
                b_t            momentum
                g + mu b_t     nesterov
        theta = theta - lr d

    The velocity b is in units of the gradient, as in torch; Sutskever's v is -lr b, which is the
    same as long as lr does not change. Nesterov's gradient is taken where the step would lead;
    seen from there, the point that theta stands for, it becomes the line above.

    Sources:
        Polyak 1964, Some methods of speeding up the convergence of iteration methods (the heavy
        ball). Nesterov 1983, A method of solving a convex programming problem with
        convergence rate O(1/k^2). Sutskever et al. 2013, On the importance of initialization and
        momentum in deep learning, section 2.

    Args:
        params: Parameters, named parameters, or dicts that define parameter groups.
        lr: Step size; a tensor of one element is read at each step.
        momentum: mu, the part of the velocity that stays from one step to the next.
        dampening: tau, what is held back of each new gradient, except the first.
        weight_decay: lam, the factor of the L2 penalty ``lam/2 |theta|^2``.
        nesterov: Look ahead; needs a momentum and no dampening.
        maximize: Ascend.
        foreach: False steps by ``formula``, True and None by ``in_place``.
        differentiable: Only False.
        fused: Only False or None.

    Raises:
        ValueError: A negative lr, momentum or weight_decay; nesterov without momentum or with
            dampening; a tensor lr of more than one element.
        NotImplementedError: ``differentiable`` or ``fused`` is true.
        RuntimeError: In ``step``, for a sparse gradient together with weight_decay.
    """

    counts_steps: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        require_scalar(lr=lr)
        require_nonnegative(
            {
                "learning rate": lr,
                "momentum value": momentum,
                "weight_decay value": weight_decay,
            }
        )
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def state_names(self, h: Mapping[str, Any]) -> tuple[str, ...]:
        """Name b, where it is used."""
        return ("momentum_buffer",) if h["momentum"] != 0 else ()

    def initial_value(self, name: str, h: Mapping[str, Any]) -> float | None:
        """Return None: there is no b_0, the first gradient is b_1."""
        return None

    def formula(
        self, theta: Tensor, g: Tensor, past: Mapping[str, Any], h: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -lr d and b_t, for a dense or a sparse g."""
        lr, mu, tau, lam = h["lr"], h["momentum"], h["dampening"], h["weight_decay"]
        if lam != 0:
            g = g + lam * theta
        if mu == 0:
            return -lr * g, {}
        first = "momentum_buffer" not in past
        b = g if first else mu * past["momentum_buffer"] + (1 - tau) * g
        d = g + mu * b if h["nesterov"] else b
        return -lr * d, {"momentum_buffer": b}

    def in_place(
        self,
        theta: Tensors,
        g: Tensors,
        past: list[dict[str, Any]],
        h: Mapping[str, Any],
    ) -> None:
        """Step lists of parameters and velocities."""
        lr, mu, tau, lam = h["lr"], h["momentum"], h["dampening"], h["weight_decay"]
        if lam != 0:
            g = torch._foreach_add(g, theta, alpha=lam)
        if mu != 0:
            first = [i for i, state in enumerate(past) if "momentum_buffer" not in state]
            for i in first:
                past[i]["momentum_buffer"] = torch.zeros_like(theta[i])
            b = [state["momentum_buffer"] for state in past]
            scale_(b, mu)
            torch._foreach_add_(b, g, alpha=1 - tau)
            for i in first:
                b[i].copy_(g[i])  # b_1 = g, without the dampening
            if not h["nesterov"]:
                g = b
            elif lam != 0:
                torch._foreach_add_(g, b, alpha=mu)  # the sum with the decay is ours to change
            else:
                g = torch._foreach_add(g, b, alpha=mu)
        torch._foreach_add_(theta, g, alpha=-lr)

    def sparse_objection(self, p: Tensor, h: Mapping[str, Any]) -> str | None:
        """Object to weight decay, which is dense."""
        if h["weight_decay"] != 0:
            return "weight_decay option is not compatible with sparse gradients"
        return None

    def sparse_step(
        self, p: Tensor, g: Tensor, state: dict[str, Any], h: Mapping[str, Any]
    ) -> None:
        """Step by the formula in sparse arithmetic: the velocity is sparse, the parameter dense."""
        delta, new = self.formula(p, g, state, h)
        p.add_(delta)
        # The first velocity is the gradient itself, which is not ours to keep.
        state.update({name: x.clone() for name, x in new.items()})
