"""What every update rule shares: which parameters step, in which form, with which state."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias, overload

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from manual_bp.optim.lists import HALF, Batches, Tensors

Params: TypeAlias = (
    Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
)  # as torch.optim takes them


class UpdateRule(Optimizer):
    """A ``torch.optim.Optimizer`` whose rule is written out, in two forms.

    A subclass gives ``formula``, the mathematics for one parameter, ``in_place``, the same over
    lists, and ``state_names``, the tensors it remembers. This class does the rest of ``step``.

    The two forms take the same arguments, of which ``theta`` and ``g`` are the parameter and the
    gradient of the loss (negated under ``maximize``, so that every rule descends), ``past`` is
    what the rule remembers of the parameter, and ``h`` the group's hyperparameters as plain
    numbers. ``in_place`` gets lists of the first three, on one device and in one dtype.

    ``foreach=False`` uses ``formula``, anything else ``in_place``. What ``in_place`` is not made
    for takes ``formula`` whatever ``foreach`` says: complex parameters, which are stepped as pairs
    of real numbers, subclasses of Tensor, and sparse gradients.

    Args:
        params: Parameters, named parameters, or dicts that define parameter groups.
        defaults: The hyperparameters of a group that does not give its own.

    Raises:
        NotImplementedError: A group asks for ``fused``, ``capturable`` or ``differentiable``.
    """

    # Whether the state counts the steps, as torch.optim's state does for every rule but SGD.
    counts_steps: ClassVar[bool] = True

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    def state_names(self, h: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the tensors, shaped like the parameter, that the rule remembers."""
        raise NotImplementedError

    def initial_value(self, name: str, h: Mapping[str, Any]) -> float | None:
        """Return what fills a remembered tensor before the first step; None: it does not exist."""
        return 0.0

    def formula(
        self, theta: Tensor, g: Tensor, past: Mapping[str, Any], h: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the change of the parameter and the new values of what is remembered.

        Nothing is modified. ``past["step"]`` is t, a number that counts from 1.
        """
        raise NotImplementedError

    def in_place(
        self,
        theta: Tensors,
        g: Tensors,
        past: list[dict[str, Any]],
        h: Mapping[str, Any],
    ) -> None:
        """Step a list of parameters and what is remembered of them; ``g`` is only read."""
        raise NotImplementedError

    def sparse_objection(self, p: Tensor, h: Mapping[str, Any]) -> str | None:
        """Say why a parameter cannot have a sparse gradient here; None when it can."""
        return f"{type(self).__name__} does not support sparse gradients"

    def sparse_step(
        self, p: Tensor, g: Tensor, state: dict[str, Any], h: Mapping[str, Any]
    ) -> None:
        """Step one parameter whose gradient is sparse."""
        raise NotImplementedError

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change every parameter that has a gradient, once, by the rule.

        Args:
            closure: Evaluates the loss and its gradients again; called first, with gradients on.

        Returns:
            What the closure returned; None without one.

        Raises:
            RuntimeError: A gradient is sparse and the rule does not take it, or a CUDA graph is
                being captured, which would freeze the step count.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if (
            self.counts_steps
            and torch.cuda.is_initialized()
            and torch.cuda.is_current_stream_capturing()
        ):
            raise RuntimeError(
                f"{type(self).__name__}.step() cannot be captured in a CUDA graph: "
                "the step count is a number on the host and would stay as it is now"
            )
        for group in self.param_groups:
            h = {name: _as_number(x) for name, x in group.items() if name != "params"}
            self._step_group(group["params"], h)
        return loss

    def _step_group(self, params: list[Tensor], h: Mapping[str, Any]) -> None:
        # Every gradient is looked at before the first parameter moves: an error leaves all alone.
        moving = [(p, p.grad) for p in params if p.grad is not None]
        for p, g in moving:
            if g.is_sparse and (objection := self.sparse_objection(p, h)) is not None:
                raise RuntimeError(objection)

        one_by_one = []
        batches = Batches()
        for p, g in moving:
            past = self._remembered(p, h)
            plain = type(p) in (Tensor, Parameter) and not p.is_complex()
            if plain and h["foreach"] is not False and not g.is_sparse:
                batches.add(p, g, past)
            else:
                one_by_one.append((p, g, past))
        for p, g, past in one_by_one:
            self._step_by_formula(p, g, past, h)
        for batch in batches.all:
            if self.counts_steps:
                torch._foreach_add_([state["step"] for state in batch.past], 1.0)
            descent = torch._foreach_neg(batch.g) if h["maximize"] else batch.g
            self.in_place(batch.theta, descent, batch.past, h)

    def _step_by_formula(
        self, p: Tensor, g: Tensor, state: dict[str, Any], h: Mapping[str, Any]
    ) -> None:
        if self.counts_steps:
            state["step"] += 1
        if h["maximize"]:
            g = -g
        if g.is_sparse:
            self.sparse_step(p, g, state, h)
            return
        past = {
            name: x.item() if name == "step" else _widened(_as_real(x)) for name, x in state.items()
        }
        delta, new = self.formula(_widened(_as_real(p)), _widened(_as_real(g)), past, h)
        _as_real(p).add_(delta)
        for name, x in new.items():
            if name not in state:
                state[name] = torch.empty_like(p)
            _as_real(state[name]).copy_(x)

    def _remembered(self, p: Tensor, h: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameter's state, with what is missing of it made."""
        names = self.state_names(h)
        if not names and not self.counts_steps:
            return {}  # plain SGD: torch's state dict has no entry for it
        state = self.state[p]
        if self.counts_steps and "step" not in state:
            state["step"] = _step_count(0)
        for name in names:
            if name not in state and (value := self.initial_value(name, h)) is not None:
                state[name] = torch.empty_like(p)
                _as_real(state[name]).fill_(value)
        return state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with hyperparameters of its own where it gives them.

        Args:
            param_group: ``params`` and any hyperparameters; the rest come from the constructor.

        Raises:
            NotImplementedError: The group asks for ``fused``, ``capturable`` or ``differentiable``.
        """
        self._refuse_unsupported({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state that was pickled, copied or saved, also by torch's own optimizer.

        ``fused`` and ``capturable`` in a checkpoint say how torch ran the step, not what it
        computed: they are put back to what is done here. ``differentiable`` is refused.
        """
        for group in state["param_groups"]:
            self._refuse_unsupported({"differentiable": group.get("differentiable")})
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
                if name in ("fused", "capturable"):
                    group[name] = value
            for p in group["params"]:
                past = self.state[p] if p in self.state else {}
                if "step" in past and not (torch.is_tensor(past["step"]) and past["step"].is_cpu):
                    # Old checkpoints hold a number here, those of fused runs a device tensor.
                    past["step"] = _step_count(past["step"])

    def _refuse_unsupported(self, h: Mapping[str, Any]) -> None:
        name = type(self).__name__
        if h.get("fused"):
            raise NotImplementedError(
                f"{name} by hand has no fused=True: that is torch's own kernel; "
                "leave it out, or use torch.optim"
            )
        if h.get("capturable"):
            raise NotImplementedError(
                f"{name} by hand has no capturable=True: its step count is a number on the host"
            )
        if h.get("differentiable"):
            raise NotImplementedError(
                f"{name} by hand has no differentiable=True: its steps are taken in place, "
                "outside of autograd"
            )


def require_scalar(**values: float | Tensor) -> None:
    """Raise ValueError unless each value that is a tensor has one element."""
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element")


def require_nonnegative(values: Mapping[str, float | Tensor]) -> None:
    """Raise ValueError unless each value, given by what messages call it, is at least zero."""
    for name, value in values.items():
        if not 0.0 <= value:
            raise ValueError(f"Invalid {name}: {value}")


def _step_count(t: float | Tensor) -> Tensor:
    # Never in half precision, where counting stops early; on the host, where it is read.
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    return torch.tensor(float(t), dtype=dtype, device="cpu")


def _as_number(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.item()
    return tuple(map(_as_number, x)) if isinstance(x, tuple) else x


def _as_real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def _widened(x: Tensor) -> Tensor:
    # A formula rounds after every operation, which half precision cannot spare.
    return x.float() if x.dtype in HALF else x
