"""Adam, its repair AMSGrad, and AdamW, which decays weights beside the gradient."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from manual_bp.optim.lists import Tensors, scale_
from manual_bp.optim.rule import Params, UpdateRule, require_nonnegative, require_scalar


class Adam(UpdateRule):
    """Adam, and with ``amsgrad`` AMSGrad.

    With lr, beta1 and beta2 (``betas``), lam (``weight_decay``) and eps, at step t, coordinate by
    coordinate::

        g     = grad + lam theta
        m_t   = beta1 m_(t-1) + (1 - beta1) g       m_0 = 0
        v_t   = beta2 v_(t-1) + (1 - beta2) g^2     v_0 = 0
        u_t   = v_t                                 Adam
                max(u_(t-1), v_t)                   AMSGrad, u_0 = 0
        theta = theta - lr (m_t / (1 - beta1^t)) / (sqrt(u_t / (1 - beta2^t)) + eps)

    The averages start at zero, so their expectation is (1 - beta^t) times that of what they
    average; the two divisions by 1 - beta^t take this out, and the first step has the length lr in
    every coordinate. AMSGrad's paper has no such division; torch keeps it, and so does this.

    Sources:
        Kingma and Ba 2015, Adam: a method for stochastic optimization, algorithm 1, and section 3
        for the bias. Reddi, Kale, Kumar 2018, On the convergence of Adam and beyond, algorithm 2.

    Args:
        params: Parameters, named parameters, or dicts that define parameter groups.
        lr: Step size; a tensor of one element is read at each step.
        betas: How much of each average stays from one step to the next; two floats, or two tensors
            of one element.
        eps: Keeps the division finite.
        weight_decay: lam, the factor of the L2 penalty ``lam/2 |theta|^2``.
        amsgrad: Divide by the largest second moment so far.
        foreach: False steps by ``formula``, True and None by ``in_place``.
        maximize: Ascend.
        capturable: Only False.
        differentiable: Only False.
        fused: Only False or None.
        decoupled_weight_decay: Decay as AdamW does.

    Raises:
        ValueError: A negative lr, eps or weight_decay; a beta outside [0, 1); one beta a tensor
            and the other not; a tensor of more than one element, or any with ``foreach=True``.
        NotImplementedError: ``capturable``, ``differentiable`` or ``fused`` is true.
        RuntimeError: In ``step``, for a sparse gradient.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        tensors = {"lr": lr, "betas[0]": betas[0], "betas[1]": betas[1]}
        for name, value in tensors.items():
            if isinstance(value, Tensor) and foreach:
                # What torch refuses is refused here too, so that code moves either way.
                raise ValueError(f"{name} as a Tensor is not supported with foreach=True")
        require_scalar(**tensors)
        require_nonnegative({"learning rate": lr, "epsilon value": eps})
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        require_nonnegative({"weight_decay value": weight_decay})
        if not any(all(isinstance(beta, kind) for beta in betas) for kind in (float, Tensor)):
            raise ValueError("betas must be either both floats or both Tensors")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def state_names(self, h: Mapping[str, Any]) -> tuple[str, ...]:
        """Name m and v, and u where it is used."""
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if h["amsgrad"] else ()))

    def formula(
        self, theta: Tensor, g: Tensor, past: Mapping[str, Any], h: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the change of theta, with the decay of AdamW in it, and m_t, v_t, u_t."""
        t, lr, (beta1, beta2), lam = past["step"], h["lr"], h["betas"], h["weight_decay"]
        decoupled = h["decoupled_weight_decay"]
        if lam != 0 and not decoupled:
            g = g + lam * theta
        m = beta1 * past["exp_avg"] + (1 - beta1) * g
        v = beta2 * past["exp_avg_sq"] + (1 - beta2) * g**2
        new = {"exp_avg": m, "exp_avg_sq": v}
        u = v
        if h["amsgrad"]:
            u = torch.maximum(past["max_exp_avg_sq"], v)
            new["max_exp_avg_sq"] = u
        m_hat = m / (1 - beta1**t)
        u_hat = u / (1 - beta2**t)
        delta = -lr * m_hat / (u_hat.sqrt() + h["eps"])
        if lam != 0 and decoupled:
            delta = delta - lr * lam * theta
        return delta, new

    def in_place(
        self,
        theta: Tensors,
        g: Tensors,
        past: list[dict[str, Any]],
        h: Mapping[str, Any],
    ) -> None:
        """Step lists of parameters and moments."""
        lr, (beta1, beta2), lam = h["lr"], h["betas"], h["weight_decay"]
        if lam != 0:
            if h["decoupled_weight_decay"]:
                scale_(theta, 1 - lr * lam)
            else:
                g = torch._foreach_add(g, theta, alpha=lam)
        m = [state["exp_avg"] for state in past]
        v = [state["exp_avg_sq"] for state in past]
        torch._foreach_lerp_(m, g, 1 - beta1)  # m + (1 - beta1) (g - m)
        scale_(v, beta2)
        torch._foreach_addcmul_(v, g, g, 1 - beta2)
        u = v
        if h["amsgrad"]:
            u = [state["max_exp_avg_sq"] for state in past]
            torch._foreach_maximum_(u, v)
        # The corrections are numbers, one for each parameter: only the root is the size of theta.
        t = [state["step"].item() for state in past]
        root = torch._foreach_sqrt(u)
        torch._foreach_div_(root, [(1 - beta2**k) ** 0.5 for k in t])
        torch._foreach_add_(root, h["eps"])
        torch._foreach_addcdiv_(theta, m, root, [-lr / (1 - beta1**k) for k in t])

    def sparse_objection(self, p: Tensor, h: Mapping[str, Any]) -> str | None:
        """Object to every sparse gradient: the averages decay where it is zero."""
        return "Adam does not support sparse gradients, please consider SparseAdam instead"


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Adam's rule with g = grad, and the decay taken from the parameter directly::

        theta = (1 - lr lam) theta - lr (m_t / (1 - beta1^t)) / (sqrt(u_t / (1 - beta2^t)) + eps)

    An L2 penalty inside g is divided by the root like the rest of the gradient, so that weights
    with large gradients decay less. Beside it, all weights decay at the same rate lr lam.

    Sources:
        Loshchilov and Hutter 2019, Decoupled weight decay regularization, algorithm 2. As in
        torch, lr multiplies the decay; the paper has a separate schedule multiplier there.

    Args:
        params: Parameters, named parameters, or dicts that define parameter groups.
        lr: Step size; a tensor of one element is read at each step.
        betas: As in Adam.
        eps: Keeps the division finite.
        weight_decay: lam, the decay per step and unit of lr.
        amsgrad: Divide by the largest second moment so far.
        maximize: Ascend.
        foreach: False steps by ``formula``, True and None by ``in_place``.
        capturable: Only False.
        differentiable: Only False.
        fused: Only False or None.

    Raises:
        ValueError: As in Adam.
        NotImplementedError: ``capturable``, ``differentiable`` or ``fused`` is true.
        RuntimeError: In ``step``, for a sparse gradient.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a saved state; one of Adam's does not turn the decay back into a penalty."""
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
