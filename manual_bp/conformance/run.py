"""Make a call, then its backward, and keep what can be compared."""

from __future__ import annotations

import dis
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.call import Call, Made, flat_tensors
from manual_bp.conformance.settings import Settings
from manual_bp.conformance.watchdog import TookTooLong

__all__ = ["Forward", "Raised", "dense", "keep_random_state", "seed_all"]


class Raised(Exception):
    """Something that a function under test raised, and where.

    Attributes:
        phase: ``forward``, ``backward`` or ``second backward``.
        error: The exception.
    """

    def __init__(self, phase: str, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.phase = phase
        self.error = error

    @property
    def message(self) -> str:
        """The type and the first lines of the message."""
        lines = [line.strip() for line in str(self.error).splitlines() if line.strip()]
        text = " ".join(lines[:2])
        if len(text) > 300:
            text = text[:300] + " ..."
        return f"{type(self.error).__name__}: {text}" if text else type(self.error).__name__

    @property
    def deliberate(self) -> bool:
        """Whether a ``raise`` or ``assert`` in Python refused, not an accident inside a call."""
        trace = self.error.__traceback__
        if trace is None:
            return False
        last: TracebackType = trace
        while last.tb_next is not None:
            last = last.tb_next
        code = last.tb_frame.f_code.co_code
        return code[last.tb_lasti] in _RAISES


_RAISES = {dis.opmap["RAISE_VARARGS"]}


def seed_all(seed: int) -> None:
    """Give every generator that a function may draw from the same start."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Leave the random generators as they were."""
    python_state = random.getstate()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(python_state)


def dense(x: Tensor) -> Tensor:
    """A sparse tensor as a dense one, any other as it is: what counts is the numbers."""
    return x if x.layout is torch.strided else x.to_dense()


class Forward:
    """A call that was made, ready for its backward.

    Args:
        function: What is called.
        call: Its arguments; new copies are made.
        seed: Of the random generators, before the call.

    Attributes:
        outputs: The tensors of its result.
        drew: Whether it drew random numbers.
        left_behind: Global settings that it or its backward changed, as phrases; they are put
            back at once.

    Raises:
        Raised: when the call raises, with phase ``forward``.
    """

    def __init__(self, function: Callable[..., Any], call: Call, seed: int) -> None:
        self.call = call
        self.made: Made = call.make()
        seed_all(seed)
        before = torch.default_generator.get_state()
        settings = Settings()
        try:
            result = function(*self.made.args, **self.made.kwargs)
        except TookTooLong:
            raise
        except Exception as error:
            raise Raised("forward", error) from None
        finally:
            self.left_behind = settings.put_back()
        self.drew = not torch.equal(before, torch.default_generator.get_state())
        self.outputs = [dense(y) for y in flat_tensors(result)]
        self.differentiable = [i for i, output in enumerate(self.outputs) if output.requires_grad]

    @property
    def needed(self) -> list[Tensor]:
        """The inputs that require a gradient, in order."""
        return [self.made.leaves[i] for i in sorted(self.call.needs)]

    def backward(
        self,
        cotangents: Sequence[Tensor | None],
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> dict[int, Tensor | None]:
        """The gradients of the inputs that require one.

        Args:
            cotangents: One for each output; None where the output is not used.
            retain_graph: As in ``torch.autograd.grad``.
            create_graph: As in ``torch.autograd.grad``.

        Raises:
            Raised: when the backward raises, with phase ``backward``.
        """
        used = [
            (output, cotangent)
            for output, cotangent in zip(self.outputs, cotangents, strict=True)
            if cotangent is not None and output.requires_grad
        ]
        if not used or not self.call.needs:
            return dict.fromkeys(sorted(self.call.needs))
        settings = Settings()
        try:
            grads = self._differentiate(used, retain_graph or create_graph, create_graph)
        except TookTooLong:
            raise
        except Exception as error:
            raise Raised("backward", error) from None
        finally:
            self.left_behind += settings.put_back()
        found = (None if grad is None else dense(grad) for grad in grads)
        return dict(zip(sorted(self.call.needs), found, strict=True))

    def _differentiate(
        self, used: Sequence[tuple[Tensor, Tensor]], retain_graph: bool, create_graph: bool
    ) -> Sequence[Tensor | None]:
        outputs, cotangents = [y for y, _ in used], [g for _, g in used]
        try:
            return torch.autograd.grad(
                outputs,
                self.needed,
                cotangents,
                retain_graph=retain_graph,
                create_graph=create_graph,
                allow_unused=True,
            )
        except RuntimeError as error:
            # A checkpoint of the old kind knows backward() only.
            if create_graph or "use_reentrant" not in str(error):
                raise
        torch.autograd.backward(outputs, cotangents, retain_graph=retain_graph)
        grads = [leaf.grad for leaf in self.needed]
        for leaf in self.needed:
            leaf.grad = None
        return grads
