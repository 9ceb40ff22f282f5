"""How much of PyTorch is by hand, told by PyTorch's own test registries.

``torch.testing`` ships sample inputs for every operation (``op_db``) and every module
(``module_db``). Run under :class:`manual_bp.by_hand` they tell what is by hand, and whether it is
right. The registries need the package ``expecttest``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from manual_bp.audit import audit
from manual_bp.by_hand import by_hand

__all__ = [
    "LEFT_OUT",
    "Entry",
    "Finding",
    "Run",
    "examine",
    "missing",
    "modules",
    "operations",
]

# What of torch.nn and torch.nn.functional is left to torch on purpose, and why. It works as it is
# in a model under by_hand(), and audit() names it.
LEFT_OUT = {
    "torch.nn.Container": "it is an old name of Module",
    "torch.nn.DataParallel": "it only spreads a model over GPUs, and torch advises against it",
    "torch.nn.NLLLoss2d": "it is an old name of NLLLoss, which is by hand",
    "torch.nn.SyncBatchNorm": "in training it needs several processes, each with a GPU; alone it "
    "is BatchNorm, which is by hand",
    "torch.nn.functional.grouped_mm": "it takes no float64, in which gradients here are proved",
    "torch.nn.functional.one_hot": "it has no gradient",
    "torch.nn.functional.scaled_grouped_mm": "it multiplies 8-bit numbers, without a gradient",
    "torch.nn.functional.scaled_mm": "it multiplies 8-bit numbers, without a gradient",
    "torch.nn.functional.upsample": "it is an old name of interpolate, which is by hand",
    "torch.nn.functional.upsample_bilinear": "it is an old name of interpolate, which is by hand",
    "torch.nn.functional.upsample_nearest": "it is an old name of interpolate, which is by hand",
}


@dataclass(frozen=True)
class Run:
    """One of PyTorch's samples: a call to make, and what to differentiate it by."""

    call: Callable[[], Any]
    wanted: list[Tensor]


@dataclass(frozen=True)
class Entry:
    """An operation or module of a registry, with its samples in double precision.

    Attributes:
        name: As the registry calls it, with the variant.
        kind: "module", "functional" or "operation".
        runs: Draws the samples; the same ones at every call.
    """

    name: str
    kind: str
    runs: Callable[[], Iterator[Run]] = field(repr=False)


@dataclass(frozen=True)
class Finding:
    """What one sample showed.

    Attributes:
        left: What autograd computes of the backward graph, counted.
        error: Largest relative error of a gradient, in the norm.
        differentiable: Whether the native call gives a gradient at all.
    """

    left: Counter[str]
    error: float
    differentiable: bool = True


def _registry(module: str, name: str) -> Any:
    """A list of ``torch.testing``, without what its import does to the process.

    Left alone it freezes the flags of ``torch.backends``, and no Trainer of Lightning can be made
    afterwards.
    """
    with patch.object(torch.backends, "disable_global_flags", lambda: None):
        return getattr(import_module(f"torch.testing._internal.{module}"), name)


def operations(dtype: torch.dtype = torch.float64) -> Iterator[Entry]:
    """The differentiable entries of PyTorch's ``op_db``.

    Args:
        dtype: of the samples; float64 or complex128

    Raises:
        ModuleNotFoundError: Without the package ``expecttest``.
    """
    for op in _registry("common_methods_invocations", "op_db"):
        if op.supports_autograd and dtype in op.dtypes:
            variant = f" ({op.variant_test_name})" if op.variant_test_name else ""
            kind = "functional" if op.name.startswith("nn.functional.") else "operation"
            yield Entry(op.name + variant, kind, lambda op=op: _operation_runs(op, dtype))  # type: ignore[misc]


def _operation_runs(op: Any, dtype: torch.dtype) -> Iterator[Run]:
    for s in op.sample_inputs("cpu", dtype, requires_grad=True):

        def call(s: Any = s) -> Any:
            result = op(s.input, *s.args, **s.kwargs)
            return s.output_process_fn_grad(result) if s.output_process_fn_grad else result

        leaves = tree_leaves((s.input, s.args, s.kwargs))
        yield Run(call, [a for a in leaves if isinstance(a, Tensor) and a.requires_grad])


def modules() -> Iterator[Entry]:
    """The entries of PyTorch's ``module_db``, each in training.

    Raises:
        ModuleNotFoundError: Without the package ``expecttest``.
    """
    for info in _registry("common_modules", "module_db"):
        yield Entry(info.name, "module", lambda info=info: _module_runs(info))  # type: ignore[misc]


def _module_runs(info: Any) -> Iterator[Run]:
    for given in info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=True, training=True
    ):
        made = given.constructor_input
        module = info.module_cls(*made.args, **made.kwargs).to(torch.float64)
        if given.forward_input is None:
            continue
        args, kwargs = _without_history(given.forward_input.args, given.forward_input.kwargs)
        torch.manual_seed(0)
        module(*args, **kwargs)  # a lazy module gets its parameters here
        leaves = [*tree_leaves((args, kwargs)), *module.parameters()]
        wanted = [a for a in leaves if isinstance(a, Tensor) and a.requires_grad]
        state = {k: v.clone() for k, v in module.state_dict().items()}

        def call(
            module: Any = module, state: Any = state, args: Any = args, kwargs: Any = kwargs
        ) -> Any:
            module.load_state_dict(state)  # running statistics, as they were
            return module(*args, **kwargs)

        yield Run(call, wanted)


def _without_history(*given: Any) -> Any:
    """The same numbers as leaves: how a sample was made is not the module's doing."""
    leaves: dict[Tensor, Tensor] = {}  # a tensor that is given twice stays one

    def leaf(a: Any) -> Any:
        if not isinstance(a, Tensor) or a.grad_fn is None:
            return a
        return leaves.setdefault(a, a.detach().requires_grad_())

    return tree_map(leaf, given)


def examine(run: Run) -> Finding:
    """Make one call natively and under ``by_hand()``, and compare the gradients."""
    native = _outputs(run)
    if not native or not run.wanted:
        return Finding(Counter(), 0.0, differentiable=False)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in native]
    expected = torch.autograd.grad(native, run.wanted, cotangents, allow_unused=True)
    with by_hand():
        manual = _outputs(run)
    found = torch.autograd.grad(manual, run.wanted, cotangents, allow_unused=True)
    error = max((_error(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    return Finding(audit(manual).autograd, error)


def _outputs(run: Run) -> list[Tensor]:
    torch.manual_seed(0)
    leaves = tree_leaves(run.call())
    return [y for y in leaves if isinstance(y, Tensor) and y.requires_grad]


def _error(found: Tensor | None, expected: Tensor | None) -> float:
    if found is None or expected is None:
        present = found if expected is None else expected
        # A gradient that one side leaves out must be zero on the other.
        return 0.0 if present is None or not present.count_nonzero() else float("inf")
    found, expected = found.to_dense(), expected.to_dense()
    finite = expected.isfinite()
    if not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    found, expected = found[finite], expected[finite]
    # Where terms cancel (LayerNorm over one feature) the truth is 0 and rounding all there is.
    rounding = 1e-11
    if expected.dtype not in (torch.float64, torch.complex128):  # weights are, of some samples
        rounding = 1e-6 * (1 + float(expected.norm()))
    difference = max(float((found - expected).norm()) - rounding, 0.0)
    return difference / max(float(expected.norm()), 1e-30) if difference else 0.0


def missing(entries: Iterator[Entry], samples: int = 3) -> Iterator[tuple[Entry, str]]:
    """Name the entries of which autograd computes something, and what."""
    for entry in entries:
        left: Counter[str] = Counter()
        trouble = ""
        try:
            for run in islice(entry.runs(), samples):
                left += examine(run).left
        except Exception as error:  # one entry that fails is named, the others go on
            trouble = f"{type(error).__name__}: {error}".splitlines()[0]
        if left or trouble:
            yield entry, trouble or ", ".join(sorted(left))
