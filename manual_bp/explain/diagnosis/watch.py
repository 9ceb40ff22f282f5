"""What a step of a network does, seen from outside: every call of torch, and every gradient.

:class:`Watch` is entered around the forward pass and the loss. It sees the calls of torch that
the model makes, as ``by_hand()`` does. It keeps a summary of every tensor, and the tensors
themselves as long as it lives, but copies none. :meth:`Watch.follow` then puts a hook on every
node of the backward graph. :func:`manual_bp.explain` records under ``by_hand()`` and copies all
numbers; here the step runs on whatever gradients the user's own would run on, and also what has no
gradient is seen: ``detach()``, an argmax, a block under ``no_grad()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _pop_mode,
    _push_mode,
)
from torch.utils._pytree import tree_leaves

from manual_bp.explain.diagnosis.call import Call, Key, Passage
from manual_bp.explain.diagnosis.summary import Summary, summarize
from manual_bp.layers import SPECS
from manual_bp.spec import Spec

__all__ = ["Watch"]

_SPECS: dict[Callable[..., Any], Spec] = {f: spec for spec in SPECS for f in spec.replaced}

_BY_FILE: dict[str, list[Spec]] = {}
for _spec in SPECS:
    _BY_FILE.setdefault(_spec.manual.__module__, []).append(_spec)

# Asked of a tensor, not computed from its numbers.
_QUESTIONS = frozenset(
    "__get__ __repr__ __format__ __len__ __hash__ shape size dim numel element_size stride"
    " requires_grad requires_grad_ is_leaf grad_fn grad dtype device layout ndim _version data_ptr"
    " is_contiguous is_floating_point is_complex is_nonzero storage_offset untyped_storage"
    " register_hook retain_grad backward is_sparse is_cuda names __dir__ __reduce_ex__"
    " is_quantized is_mps is_nested _is_view output_nr _base volatile itemsize nbytes"
    " __deepcopy__ is_inference is_same_size get_device is_shared is_pinned".split()
)


class Watch(TorchFunctionMode):
    """Records the calls of torch, in a ``with`` block.

    Args:
        modules: What is called what; calls from other modules count as their callers'.

    Attributes:
        calls: In the order of the forward pass.
        called: Paths of the modules whose forward ran.
        passages: In the order of the backward pass.
    """

    def __init__(self, modules: dict[str, torch.nn.Module]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.called: set[str] = set()
        self.passages: list[Passage] = []
        self._modules = modules
        self._stack: list[str] = []
        self._busy = self._pushed = False
        self._handles: list[Any] = []
        self._maker: dict[Key, Call] = {}
        self._summaries: dict[Key, Summary] = {}
        self._owner: dict[Any, Call] = {}

    def __enter__(self) -> Watch:
        """Begin."""
        for path, module in self._modules.items():
            enter, leave = self._at(path)
            self._handles.append(module.register_forward_pre_hook(enter, prepend=True))
            self._handles.append(module.register_forward_hook(leave, always_call=True))
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; the modules are as they were."""
        super().__exit__(kind, error, traceback)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _at(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self.called.add(path)
            if not self._stack and _get_current_function_mode() is not self:
                # The model runs itself by_hand(): what that calls is no call of the model's.
                _push_mode(self)
                self._pushed = True
            self._stack.append(path)

        def leave(*_: Any) -> None:
            self._stack.pop()
            if self._pushed and not self._stack:
                _pop_mode()
                self._pushed = False

        return enter, leave

    @property
    def place(self) -> str:
        """Path of the module that is running: "" is the model, "loss" what comes after it."""
        return self._stack[-1] if self._stack else "loss"

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` and write down what it took and gave."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":  # a property: its descriptor knows what it is called
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        if name in _QUESTIONS or self._busy:
            return func(*args, **kwargs)
        if name == "__iter__" and args[0].dim():  # it hands out views one by one, unseen
            return iter(self.__torch_function__(torch.unbind, types, (args[0],)))
        self._busy = True  # entered a second time where the model runs itself by_hand()
        try:
            return self._record(name, func, args, kwargs)
        finally:
            self._busy = False

    def _record(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        inputs = {_key(t): t for t in _tensors((args, kwargs))}
        for key, tensor in inputs.items():
            self._adopt(key, tensor)
        before = {key: self._summary(key, tensor) for key, tensor in inputs.items()}
        wanted = any(t.requires_grad for t in inputs.values())
        result = func(*args, **kwargs)
        made = [args[0]] if name in ("__setitem__", "copy_") and args else _tensors(result)
        outputs = {_key(t): t for t in made}
        if not inputs and not outputs:
            return result
        if outputs and outputs.keys() <= inputs.keys():
            return result  # nothing was done: contiguous(), to() where it was so already
        call = Call(
            index=len(self.calls),
            name=name.strip("_") or name,
            module=self.place,
            spec=_SPECS.get(func),
            args=(args, kwargs),
            inputs=inputs,
            outputs=outputs,
            grad_enabled=torch.is_grad_enabled(),
            wanted=wanted,
            summaries=before | {key: self._summary(key, t) for key, t in outputs.items()},
        )
        self.calls.append(call)
        for key, tensor in outputs.items():
            self._maker[key] = call
            self._claim(call, tensor.grad_fn)
        return result

    def _adopt(self, key: Key, tensor: Tensor) -> None:
        """Give the node of a Function that was called directly to the last call of its forward.

        That call runs without gradients, and gets its node when the Function returns; from then
        on it goes by the name of the Function, or of its spec.
        """
        node, maker = tensor.grad_fn, self._maker.get(key)
        if node is None or node in self._owner or _is_leaf(node):
            return
        if maker is not None and not maker.nodes:
            self._claim(maker, node)
            maker.grad_enabled = True
            function = getattr(node, "_forward_cls", None)
            specs = _BY_FILE.get(getattr(function, "__module__", ""), [])
            if maker.name not in [spec.name for spec in specs]:
                maker.spec = specs[0] if len(specs) == 1 else None
                maker.name = maker.spec.name if maker.spec else node.name().removesuffix("Backward")

    def _summary(self, key: Key, tensor: Tensor) -> Summary:
        # The calls keep every tensor alive, so that an id stays that of one tensor.
        if key not in self._summaries:
            self._summaries[key] = summarize(tensor)
        return self._summaries[key]

    def _claim(self, call: Call, node: Any) -> None:
        """The nodes behind an output that no earlier call has made are this call's."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._owner or _is_leaf(node):
                continue
            self._owner[node] = call
            call.nodes.append(node)
            waiting.extend(following for following, _ in node.next_functions)

    def maker(self, tensor: Tensor) -> Call | None:
        """The call that made a tensor, as it is now."""
        return self._maker.get(_key(tensor))

    def made(self, key: Key) -> Call | None:
        """The call that made a tensor, by key."""
        return self._maker.get(key)

    def users(self, key: Key) -> list[Call]:
        """The calls that take a tensor, in order."""
        return [call for call in self.calls if key in call.inputs]

    def uses(self, parameter: Tensor) -> list[Call]:
        """The calls that take a parameter, as it is or as a view."""
        return [
            call
            for call in self.calls
            if any(t is parameter or t._base is parameter for t in call.inputs.values())
        ]

    def before(self, call: Call) -> Iterator[Call]:
        """The calls that made a call's inputs."""
        for key in call.inputs:
            maker = self._maker.get(key)
            if maker is not None:
                yield maker

    def after(self, call: Call) -> set[int]:
        """Indices of the calls that depend on a call, itself among them."""
        found, known = {call.index}, set(call.outputs)
        for later in self.calls[call.index + 1 :]:
            if not known.isdisjoint(later.inputs):
                found.add(later.index)
                known.update(later.outputs)
        return found

    def follow(self, loss: Tensor) -> Callable[[], None]:
        """Put a hook on every node behind ``loss``.

        Returns:
            What takes the hooks off again.
        """
        self._adopt(_key(loss), loss)
        waiting, seen, handles = [loss.grad_fn], set(), []
        while waiting:
            node = waiting.pop()
            if node is None or node in seen or _is_leaf(node):
                continue
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
            handles.append(node.register_hook(self._passing(node)))

        def remove() -> None:
            for handle in handles:
                handle.remove()

        return remove

    def _passing(self, node: Any) -> Callable[..., None]:
        call = self._owner.get(node)

        def passing(leaving: tuple[Any, ...], arriving: tuple[Any, ...]) -> None:
            passage = Passage(node, call, _summaries(arriving), _summaries(leaving))
            self.passages.append(passage)
            if call is not None:
                call.passages.append(passage)

        return passing


def _key(tensor: Tensor) -> Key:
    return id(tensor), tensor._version


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_leaf(node: Any) -> bool:
    return bool(node.name().endswith("AccumulateGrad"))


def _summaries(tensors: tuple[Any, ...]) -> list[Summary | None]:
    return [summarize(t) if isinstance(t, Tensor) else None for t in tensors]
