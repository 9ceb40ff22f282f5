"""The checker inside pytest, or any other runner that calls functions named ``test_...``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.check import assert_equivalent

__all__ = ["equivalent_to"]


def equivalent_to(
    autograd: Callable[..., Any], *inputs: Any, seeds: Sequence[int] = (0,), **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make a test of a function that calls what is to be tested.

    The function under the decorator says how the hand-written one is called; its first parameters
    take ``inputs``. Further parameters stay visible to pytest, which fills them in from
    ``parametrize`` or from fixtures, and go by name to both functions.

    Args:
        autograd: The reference.
        inputs: Positional arguments of one call: tensors and anything else. A callable stands for
            an argument that it makes, anew for each seed.
        seeds: One check each.
        options: As in :func:`manual_bp.conformance.check`.

    Returns:
        A decorator that returns the test.

    Example:
        In a test file::

            @pytest.mark.parametrize("approximate", ["none", "tanh"])
            @manual_bp.equivalent_to(torch.nn.functional.gelu, lambda: torch.randn(4, 8))
            def test_my_gelu(x, approximate="none"):
                return MyGelu.apply(x, approximate)
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., None]:
        parameters = list(inspect.signature(function).parameters.values())
        taken = len(inputs)
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            taken = len(parameters)

        @wraps(function)
        def test(**given: Any) -> None:
            __tracebackhide__ = True
            for seed in seeds:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    args = [_made(value) for value in inputs]
                assert_equivalent(
                    function,
                    autograd,
                    *args,
                    kwargs={**options.get("kwargs", {}), **given},
                    seed=seed,
                    **{key: value for key, value in options.items() if key != "kwargs"},
                )

        # What is left for pytest to fill in; without this it would look for a fixture named x.
        rest = [p.replace(default=p.empty, kind=p.KEYWORD_ONLY) for p in parameters[taken:]]
        vars(test)["__signature__"] = inspect.Signature(rest)
        del vars(test)["__wrapped__"]
        return test

    return decorate


def _made(value: Any) -> Any:
    return value() if callable(value) and not isinstance(value, Tensor) else value
