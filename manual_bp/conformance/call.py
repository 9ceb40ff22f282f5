"""One call of a function, as data: it can be copied, changed and made again and again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.layouts import lay_out, repeats, suits

__all__ = ["Call", "Made", "flat_tensors", "is_differentiable"]


@dataclass(frozen=True)
class _Slot:
    """The place of a leaf in the structure of arguments."""

    index: int


@dataclass(frozen=True)
class Made:
    """The arguments of one call, made for that call alone."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    leaves: tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """The arguments of a call, taken apart into leaves.

    Attributes:
        leaves: Tensors (detached), numbers, strings, None: everything that is not a container.
        names: A name for each leaf, as a reader of the report knows it.
        layouts: The layout in memory of each leaf that is a tensor.
        needs: Indices of the leaves that require a gradient.
        template: The positional and keyword arguments, with a slot for each leaf.
        shared: Leaves that are one and the same tensor: index to index of the first.
    """

    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    layouts: tuple[str, ...]
    needs: frozenset[int]
    template: tuple[tuple[Any, ...], dict[str, Any]]
    shared: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls, args: Iterable[Any], kwargs: Mapping[str, Any], parameters: tuple[str, ...] = ()
    ) -> Call:
        """Take a call apart; ``parameters`` are the names of the positional arguments."""
        leaves: list[Any] = []
        names: list[str] = []

        def take(value: Any, name: str) -> Any:
            if isinstance(value, (tuple, list)):
                parts = [take(part, f"{name}[{i}]") for i, part in enumerate(value)]
                if isinstance(value, list) or type(value) is tuple:
                    return type(value)(parts)
                return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
            if isinstance(value, dict):
                return {key: take(part, f"{name}[{key!r}]") for key, part in value.items()}
            leaves.append(value)
            names.append(name)
            return _Slot(len(leaves) - 1)

        positional = tuple(
            take(value, parameters[i] if i < len(parameters) else f"input {i}")
            for i, value in enumerate(args)
        )
        keywords = {key: take(value, key) for key, value in kwargs.items()}
        needs = frozenset(
            i for i, leaf in enumerate(leaves) if _is_plain(leaf) and leaf.requires_grad
        )
        return cls(
            tuple(leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves),
            tuple(names),
            ("as given",) * len(leaves),
            needs,
            (positional, keywords),
        )

    @property
    def tensors(self) -> tuple[int, ...]:
        """Indices of the leaves that are tensors; sparse and nested ones are left as they are."""
        return tuple(i for i, leaf in enumerate(self.leaves) if _is_plain(leaf))

    @property
    def floating(self) -> tuple[int, ...]:
        """Indices of the tensors that could have a gradient."""
        return tuple(i for i in self.tensors if is_differentiable(self.leaves[i]))

    def with_leaf(self, index: int, value: Any) -> Call:
        """The call with one leaf changed, in the plain layout."""
        return self.with_leaves({index: value})

    def with_leaves(self, values: Mapping[int, Any]) -> Call:
        """The call with some leaves changed, those in the plain layout."""
        leaves = tuple(values.get(i, leaf) for i, leaf in enumerate(self.leaves))
        layouts = tuple(
            "contiguous" if i in values else layout for i, layout in enumerate(self.layouts)
        )
        return replace(self, leaves=leaves, layouts=layouts)

    def with_layout(self, layout: str, only: Iterable[int] | None = None) -> Call:
        """The call with its tensors (or some) laid out otherwise, where that is possible."""
        chosen = {
            i for i in (self.tensors if only is None else only) if suits(layout, self.leaves[i])
        }
        leaves = list(self.leaves)
        if repeats(layout):
            for i in chosen:
                leaves[i] = lay_out(leaves[i], layout).contiguous()
        layouts = tuple(layout if i in chosen else old for i, old in enumerate(self.layouts))
        return replace(self, leaves=tuple(leaves), layouts=layouts)

    def with_needs(self, needs: Iterable[int]) -> Call:
        """The call with other tensors requiring a gradient."""
        return replace(self, needs=frozenset(needs))

    def with_same(self, first: int, second: int) -> Call:
        """The call with one tensor in two places."""
        call = self.with_leaf(second, self.leaves[first])
        return replace(call, shared=((second, first),))

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Call:
        """The call with every floating-point tensor in ``dtype``; complex ones to match."""

        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            if leaf.dtype.is_complex:
                return leaf.to(device=device, dtype=dtype.to_complex())
            if leaf.dtype.is_floating_point:
                return leaf.to(device=device, dtype=dtype)
            return leaf.to(device=device)

        return replace(self, leaves=tuple(move(leaf) for leaf in self.leaves))

    def make(self) -> Made:
        """New tensors for a call; nothing of them is shared with this one or with another."""
        made: list[Any] = []
        shared = dict(self.shared)
        for i, leaf in enumerate(self.leaves):
            if i in shared:
                made.append(made[shared[i]])
            elif isinstance(leaf, Tensor):
                tensor = lay_out(leaf, self.layouts[i])
                made.append(tensor.requires_grad_() if i in self.needs else tensor)
            elif isinstance(leaf, torch.Generator):
                made.append(leaf.clone_state())
            else:
                made.append(leaf)

        args, kwargs = self.template
        return Made(_fill(args, made), _fill(kwargs, made), tuple(made))

    def make_with(self, values: Mapping[int, Any]) -> Made:
        """Arguments with these very values in some places, such as tensors of torch.func."""
        made = [values.get(i, leaf) for i, leaf in enumerate(self.leaves)]
        args, kwargs = self.template
        return Made(_fill(args, made), _fill(kwargs, made), tuple(made))

    def describe(self) -> str:
        """The arguments in one line: shapes and layouts of tensors, everything else as it is."""
        return ", ".join(f"{name}: {self._describe_leaf(i)}" for i, name in enumerate(self.names))

    def _describe_leaf(self, index: int) -> str:
        leaf = self.leaves[index]
        if not isinstance(leaf, Tensor):
            return repr(leaf)
        kind = str(leaf.dtype).removeprefix("torch.")
        if leaf.layout is not torch.strided:
            kind = f"sparse {kind}"
        layout = self.layouts[index]
        plain = layout in ("as given", "contiguous")
        shape = "x".join(map(str, leaf.shape)) or "scalar"
        return f"{kind} {shape}" + ("" if plain else f" ({layout})")


def _fill(part: Any, made: list[Any]) -> Any:
    """The structure with its slots filled.

    Not a nested function: one that calls itself is a reference cycle, and would keep the tensors
    of a call alive that the checker itself looks for.
    """
    if isinstance(part, _Slot):
        return made[part.index]
    if isinstance(part, dict):
        return {key: _fill(value, made) for key, value in part.items()}
    filled = [_fill(value, made) for value in part]
    if hasattr(part, "_fields"):
        return type(part)(*filled)
    return tuple(filled) if isinstance(part, tuple) else filled


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_nested or value.is_quantized)
    )


def is_differentiable(value: Any) -> bool:
    """Whether a value is a tensor that may require a gradient."""
    return isinstance(value, Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def flat_tensors(value: Any) -> list[Tensor]:
    """The tensors of a result, in order, out of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in flat_tensors(part)]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in flat_tensors(part)]
    return []


def parameter_names(*functions: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the positional parameters, from the first function that tells them."""
    for function in functions:
        # The apply of an autograd.Function hides the names; its forward has them.
        owner = getattr(function, "__self__", None)
        is_apply = isinstance(owner, type) and issubclass(owner, torch.autograd.Function)
        target = owner.forward if is_apply else function  # type: ignore[union-attr]
        try:
            parameters = inspect.signature(target).parameters.values()
        except (TypeError, ValueError):
            continue
        names = tuple(
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        )
        if names and names[0] in ("ctx", "self", "_"):
            names = names[1:]
        if names:
            return names
    return ()
