"""Records a forward pass operation by operation, and the gradients that come back through it.

:class:`Recorder` is :class:`~manual_bp.by_hand.by_hand` with a notebook. It sees each torch call
of the model from outside: what a call does inside (a composed layer, a Function's forward) is part
of that one operation and is not told again. The gradients are read by hooks on the graph: on the
outputs for what arrives, on the nodes of the operation for what it hands to each input. The graph
itself stays as it would be without a recorder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from manual_bp.by_hand import _REPLACED, by_hand
from manual_bp.explain.operation import Operation, Symbol
from manual_bp.explain.symbols import Argument, arguments, name_of, output_names, spec_of
from manual_bp.spec import Spec

__all__ = ["Edge", "Recorder", "Trace"]

Edge = tuple[Any, int]  # a node of the graph and which of its outputs


@dataclass
class Trace:
    """Where an operation lies in autograd's graph.

    Attributes:
        ends: The edges of its outputs; None for one without a gradient.
        nodes: The nodes that it made, those nearest to the outputs first.
        slots: Of a node, which of the gradients that it returns is for which input.
    """

    ends: list[Edge | None]
    nodes: list[Any]
    slots: dict[Any, list[tuple[int, Symbol]]]


# They return a tensor and compute nothing.
_SILENT = {
    "base",
    "data",
    "grad",
    "requires_grad",
    "requires_grad_",
    "retain_grad",
    "shape",
    "register_hook",
}


class Recorder(by_hand):
    """A context that records every torch call a gradient could go through.

    Args:
        model: Its modules tell where a call stands. Hooks are put on them: give it a copy.
        inputs: The tensors the model is given.
        manual: Whether the gradients by hand are used; False records autograd's own.
    """

    def __init__(self, model: nn.Module, inputs: list[Tensor], manual: bool = True) -> None:
        super().__init__(None if manual else ())
        self.operations: list[Operation] = []
        self.backward: list[int] = []
        self.inside = False  # an operation: what is called there is part of it
        self._parameters = {id(p): name for name, p in model.named_parameters()}
        self._buffers = {id(b): name for name, b in model.named_buffers()}
        self._modules: list[tuple[str, str]] = [("", type(model).__name__)]
        # Tensors by identity: who made them. Holding them keeps an identity from being reused.
        self._made: dict[int, tuple[Tensor, int | None]] = {
            id(t): (t, None)
            for t in (*model.parameters(), *inputs)
            if t.is_floating_point() or t.is_complex()
        }
        self._copies: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._owned: dict[Any, int] = {}
        # Outputs that other outputs of the same operation are made from, as an LSTM cell's c' is
        # for h': what arrives there comes from inside too. Known by the identity of the Symbol.
        self.mixed: set[int] = set()
        self.traces: list[Trace] = []
        for name, module in model.named_modules():
            if module is not model:
                self._follow(name, module)

    def _follow(self, name: str, module: nn.Module) -> None:
        entry = (name, type(module).__name__)
        module.register_forward_pre_hook(lambda *_: self._modules.append(entry), prepend=True)
        module.register_forward_hook(lambda *_: self._modules.pop() and None, always_call=True)

    def standing_in(self, name: str, kind: str) -> None:
        """What follows is called by this, no module of the model: the loss."""
        self._modules = [(name, kind)]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call as :class:`by_hand` does, and note it."""
        kwargs = kwargs or {}
        if not torch.is_grad_enabled() or name_of(func) in _SILENT:
            return super().__torch_function__(func, types, args, kwargs)
        spec = spec_of(_REPLACED.get(func, ("", None))[0])
        name = _REPLACED.get(func, (name_of(func), None))[0]
        call = functools.partial(super().__torch_function__, func, types, args, kwargs)
        return self.told(name, spec, *arguments(spec, args, kwargs), call)

    def told(
        self,
        name: str,
        spec: Spec | None,
        given: list[Argument],
        settings: dict[str, Any],
        call: Callable[[], Any],
    ) -> Any:
        """Make a call and note it as one operation, whatever it does inside.

        Args:
            name: Of the operation.
            spec: Whose formula it follows, if any.
            given: The tensors it takes.
            settings: Its other arguments.
            call: Makes it.

        Returns:
            What the call returns.
        """
        if self.inside or not any(id(t) in self._made for *_, t in given):
            return call()
        self.inside = True
        try:
            before = [
                (self._symbol(letter, argument, t), _edge(t), t._version)
                for letter, argument, t in given
            ]
            result = call()
            changed = {id(t): version for (*_, t), (*_, version) in zip(given, before, strict=True)}
            results = [given[0][2]] if result is None else list(_results(result))
            made = [t for t in results if changed.get(id(t)) != t._version]
            if any(t.requires_grad for t in made):  # what else there is, is kept for the backward
                made = [t for t in made if t.requires_grad]
            if made:
                self._note(name, spec, before, made, settings)
        finally:
            self.inside = False
        return result

    def _note(
        self,
        name: str,
        spec: Spec | None,
        before: list[tuple[Symbol, Edge | None, int]],
        made: list[Tensor],
        settings: dict[str, Any],
    ) -> None:
        index = len(self.operations)
        for t in made:
            self._made[id(t)] = (t, index)
        names = output_names(spec, len(made))
        outputs = [self._symbol(letter, "", t) for letter, t in zip(names, made, strict=True)]
        for symbol in outputs:
            symbol.producer = index
        module, kind = self._modules[-1]
        operation = Operation(
            index,
            name,
            by_hand=False,
            module=module,
            kind=kind,
            formula="" if spec is None else spec.formula,
            rule="" if spec is None else spec.gradient,
            inputs=[symbol for symbol, *_ in before],
            outputs=outputs,
            settings=settings,
        )
        self.operations.append(operation)
        edges_out = [_edge(t) for t in made]
        nodes = self._nodes_between(edges_out, [edge for _, edge, _ in before], index)
        operation.by_hand = bool(nodes) and all(hasattr(n, "_forward_cls") for n in nodes)
        used_inside = {edge for node in nodes for edge in node.next_functions}
        for symbol, t, edge in zip(outputs, made, edges_out, strict=True):
            if t.requires_grad:
                t.register_hook(self._arrival(operation, symbol))
            if edge in used_inside:
                self.mixed.add(id(symbol))
        by_edge: dict[Edge, list[Symbol]] = {}
        for symbol, edge, _ in before:
            if edge is not None:
                by_edge.setdefault(edge, []).append(symbol)
        slots = {node: found for node in nodes if (found := _slots(node, by_edge))}
        self.traces.append(Trace(edges_out, nodes, slots))
        for node, found in slots.items():
            node.register_hook(self._departure(found))

    def _nodes_between(
        self, starts: list[Edge | None], ends: list[Edge | None], index: int
    ) -> list[Any]:
        """The nodes of the graph that belong to the operation from ``ends`` to ``starts``."""
        nodes, stop = [], set(ends)
        waiting = [edge for edge in starts if edge is not None]
        while waiting:
            edge = waiting.pop()
            node = edge[0]
            if edge in stop or node is None or node in self._owned:
                continue
            if "AccumulateGrad" in node.name():
                continue
            self._owned[node] = index
            nodes.append(node)
            waiting += node.next_functions
        return nodes

    def _departure(self, slots: list[tuple[int, Symbol]]) -> Callable[..., None]:
        def handed_back(grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> None:
            for slot, symbol in slots:
                if (g := grad_inputs[slot]) is not None:
                    g = _copy(g)
                    symbol.gradient = g if symbol.gradient is None else symbol.gradient + g

        return handed_back

    def _arrival(self, operation: Operation, symbol: Symbol) -> Callable[[Tensor], None]:
        def arrived(gradient: Tensor | None) -> None:
            if gradient is not None:
                symbol.gradient = _copy(gradient)
                if operation.index not in self.backward:
                    self.backward.append(operation.index)

        return arrived

    def _symbol(self, letter: str, argument: str, t: Tensor) -> Symbol:
        parameter = self._parameters.get(id(t))
        if parameter is not None and argument == "args":
            letter = parameter.rpartition(".")[2]
        _, producer = self._made.get(id(t), (t, None))
        buffer = self._buffers.get(id(t))
        return Symbol(
            letter, argument, self._value(t), t.requires_grad, parameter, buffer, producer
        )

    def _value(self, t: Tensor) -> Tensor:
        """A copy; the same one as long as the tensor is not changed."""
        key = id(t), t._version
        if key not in self._copies:
            self._copies[key] = t, _copy(t)
        return self._copies[key][1]


def _slots(node: Any, by_edge: dict[Edge, list[Symbol]]) -> list[tuple[int, Symbol]]:
    """Which of the gradients that a node returns is for which input of the operation."""
    slots: list[tuple[int, Symbol]] = []
    met: dict[Edge, int] = {}
    for slot, edge in enumerate(node.next_functions):
        if symbols := by_edge.get(edge):  # one tensor given twice has two slots, in that order
            turn = met[edge] = met.get(edge, -1) + 1
            slots.append((slot, symbols[turn % len(symbols)]))
    return slots


def _copy(t: Tensor) -> Tensor:
    t = t.detach()
    return t.to_dense() if t.is_sparse else t.clone()


def _edge(t: Tensor) -> Edge | None:
    if not t.requires_grad:
        return None
    edge: GradientEdge = get_gradient_edge(t)
    return edge.node, edge.output_nr


def _results(result: Any) -> Iterator[Tensor]:
    """The tensors among the results that a gradient could belong to."""
    if isinstance(result, Tensor):
        if result.is_floating_point() or result.is_complex():
            yield result
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from _results(part)
