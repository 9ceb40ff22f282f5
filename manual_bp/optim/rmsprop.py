"""RMSprop: the gradient divided by a running average of its size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from manual_bp.optim.lists import Tensors, scale_
from manual_bp.optim.rule import Params, UpdateRule, require_nonnegative, require_scalar


class RMSprop(UpdateRule):
    """RMSprop, plain, centered, or with momentum.

    With lr, alpha, mu (``momentum``), lam (``weight_decay``) and eps, at step t, coordinate by
    coordinate::

        g     = grad + lam theta
        v_t   = alpha v_(t-1) + (1 - alpha) g^2     v_0 = 0
        a_t   = alpha a_(t-1) + (1 - alpha) g       a_0 = 0, centered only
        r     = sqrt(v_t) + eps                     plain
                sqrt(v_t - a_t^2) + eps             centered
        b_t   = mu b_(t-1) + g / r                  b_0 = 0
        theta = theta - lr b_t

    eps stands outside the root, as in torch, and the momentum gathers scaled gradients, without
    lr. The centered v - a^2 is a variance; where the gradient hardly changes for thousands of
    steps, rounding can take it below zero, and the step is NaN, here as in torch.

    Sources:
        Tieleman and Hinton 2012, Neural networks for machine learning, lecture 6.5. Graves 2013,
        Generating sequences with recurrent neural networks, equations 38 to 41 (centered, with
        momentum).

    Args:
        params: Parameters, named parameters, or dicts that define parameter groups.
        lr: Step size; a tensor of one element is read at each step.
        alpha: How much of the averages stays from one step to the next.
        eps: Keeps the division finite.
        weight_decay: lam, the factor of the L2 penalty ``lam/2 |theta|^2``.
        momentum: mu, the part of b that stays from one step to the next.
        centered: Divide by the deviation from the average gradient, not by its size.
        capturable: Only False.
        foreach: False steps by ``formula``, True and None by ``in_place``.
        maximize: Ascend.
        differentiable: Only False.

    Raises:
        ValueError: A negative value; a tensor lr of more than one element.
        NotImplementedError: ``capturable`` or ``differentiable`` is true.
        RuntimeError: In ``step``, for a sparse gradient.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        require_scalar(lr=lr)
        require_nonnegative(
            {
                "learning rate": lr,
                "epsilon value": eps,
                "momentum value": momentum,
                "weight_decay value": weight_decay,
                "alpha value": alpha,
            }
        )
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "capturable": capturable,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
            },
        )

    def state_names(self, h: Mapping[str, Any]) -> tuple[str, ...]:
        """Name v, then b and a where they are used."""
        momentum = ("momentum_buffer",) if h["momentum"] > 0 else ()
        centered = ("grad_avg",) if h["centered"] else ()
        return ("square_avg", *momentum, *centered)

    def formula(
        self, theta: Tensor, g: Tensor, past: Mapping[str, Any], h: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -lr b_t and what is remembered: v_t, a_t, b_t."""
        lr, alpha, mu, lam, eps = h["lr"], h["alpha"], h["momentum"], h["weight_decay"], h["eps"]
        if lam != 0:
            g = g + lam * theta
        v = alpha * past["square_avg"] + (1 - alpha) * g**2
        new = {"square_avg": v}
        if h["centered"]:
            a = alpha * past["grad_avg"] + (1 - alpha) * g
            new["grad_avg"] = a
            v = v - a**2
        b = g / (v.sqrt() + eps)
        if mu > 0:
            b = mu * past["momentum_buffer"] + b
            new["momentum_buffer"] = b
        return -lr * b, new

    def in_place(
        self,
        theta: Tensors,
        g: Tensors,
        past: list[dict[str, Any]],
        h: Mapping[str, Any],
    ) -> None:
        """Step lists of parameters and averages."""
        lr, alpha, mu, lam, eps = h["lr"], h["alpha"], h["momentum"], h["weight_decay"], h["eps"]
        if lam != 0:
            g = torch._foreach_add(g, theta, alpha=lam)
        v = [state["square_avg"] for state in past]
        scale_(v, alpha)
        torch._foreach_addcmul_(v, g, g, 1 - alpha)
        if h["centered"]:
            a = [state["grad_avg"] for state in past]
            torch._foreach_lerp_(a, g, 1 - alpha)  # a + (1 - alpha) (g - a)
            root = torch._foreach_addcmul(v, a, a, -1)
            torch._foreach_sqrt_(root)
        else:
            root = torch._foreach_sqrt(v)
        torch._foreach_add_(root, eps)
        if mu > 0:
            b = [state["momentum_buffer"] for state in past]
            scale_(b, mu)
            torch._foreach_addcdiv_(b, g, root)
            torch._foreach_add_(theta, b, alpha=-lr)
        else:
            torch._foreach_addcdiv_(theta, g, root, -lr)
