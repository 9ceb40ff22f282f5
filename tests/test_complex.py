"""Complex numbers: each gradient is right for them, or the call is left to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._pytree import tree_leaves, tree_map

import manual_bp
from manual_bp.layers import SPECS
from manual_bp.spec import Draw, Sample, Spec

C = torch.complex128

# Whose own gradient is 0 where the numbers were kept, and not where they were written over: the
# other way round.
TORCH_IS_WRONG = {"as_strided_scatter"}


def _differentiated(result: Any) -> list[Tensor]:
    return [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.requires_grad]


def _complexed(spec: Spec, i: int) -> Sample:
    """The i-th sample with an imaginary part to every number."""
    s = list(spec.samples(Draw()))[i]
    draw = Draw(3)

    def turn(t: Any) -> Any:
        if not isinstance(t, Tensor) or not (t.is_floating_point() or t.is_complex()):
            return t
        return (t.detach() + 1j * draw.fixed(*t.shape)).to(C).requires_grad_(t.requires_grad)

    return Sample(tree_map(turn, s.args), tree_map(turn, s.kwargs))


def _called(f: Callable[..., Any], spec: Spec, s: Sample) -> Any:
    torch.manual_seed(0)
    first = s.args[0].clone() if spec.modifies else s.args[0]
    return f(first, *s.args[1:], **s.kwargs)


def _gradients(result: Any, wanted: list[Tensor]) -> list[Tensor]:
    outputs = _differentiated(result)
    draws = [Draw(7, y.dtype) for y in outputs]
    cotangents = [draw.fixed(*y.shape) for draw, y in zip(draws, outputs, strict=True)]
    return list(torch.autograd.grad(outputs, wanted, cotangents, materialize_grads=True))


def _compare(spec: Spec, i: int) -> bool:
    """Compare with torch; False where torch does not take complex numbers."""
    if spec.name in TORCH_IS_WRONG:
        return False
    s = _complexed(spec, i)
    wanted = _differentiated((s.args, s.kwargs))
    try:
        expected = _gradients(_called(spec.native, spec, s), wanted)
    except (RuntimeError, TypeError, ValueError):
        return False
    found = _gradients(_called(spec.manual, spec, s), wanted)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_spec(spec: Spec) -> None:
    """As torch; where torch refuses, refused or at least right."""
    if _compare(spec, 0) or spec.random:
        return
    s = _complexed(spec, 0)
    wanted = tuple(_differentiated(s.args))

    def manual(*tensors: Tensor) -> Any:
        given = iter(tensors)
        args = tree_map(
            lambda t: next(given) if isinstance(t, Tensor) and t.requires_grad else t, s.args
        )
        return _called(spec.manual, spec, Sample(args, s.kwargs))

    try:
        _gradients(manual(*wanted), list(wanted))
    except (RuntimeError, TypeError, ValueError):
        return
    assert gradcheck(manual, wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_sample_of_every_spec(spec: Spec) -> None:
    for i in range(len(list(spec.samples(Draw())))):
        _compare(spec, i)


def _positive() -> Tensor:
    return Draw(1).uniform(4, 3, low=0.5, high=1.5).requires_grad_()


x, z, w = Draw(2)(4, 3), Draw(3).complex(4, 3), Draw(4).complex(4, 3)

MIXED: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "add, alpha": (lambda a, b: torch.add(a, b, alpha=2 - 1j), (z, x)),
    "sub, alpha": (lambda a, b: torch.sub(a, b, alpha=2 - 1j), (x, z)),
    "rsub, alpha": (lambda a, b: torch.rsub(a, b, alpha=2 - 1j), (z, w)),
    "mul": (torch.mul, (x, z)),
    "mul, a complex number": (lambda a: a * (2 - 1j), (x,)),
    "div": (torch.div, (x, z)),
    "div by real": (torch.div, (z, _positive())),
    "2 / z": (lambda a: (2 - 1j) / a, (z,)),
    "pow": (torch.pow, (z, _positive())),
    "pow of negative real numbers": (torch.pow, (x, z)),
    "pow of a number": (lambda a: (2 - 1j) ** a, (x,)),
    "0 to a complex power": (lambda a: torch.pow(0.0, a), (z,)),
    "float_power": (torch.float_power, (_positive(), z)),
    "to": (lambda a: a.to(C), (x,)),
    "cfloat": (lambda a: a.cfloat(), (x,)),
    "copy_": (lambda a, b: a.clone().copy_(b), (z, x)),
    "add_": (lambda a, b: a.clone().add_(b), (z, x)),
    "mul_": (lambda a, b: a.clone().mul_(b), (z, x)),
    "cat": (lambda a, b: torch.cat((a, b)), (x, z)),
    "addmm": (
        lambda a, b, c: torch.addmm(a, b, c, beta=1 - 2j, alpha=2 + 1j),
        (Draw(5).complex(4, 5), z, Draw(6).complex(3, 5)),
    ),
    "acosh, all around": (torch.acosh, (z,)),
    "complex window": (
        lambda a, v: torch.stft(a, 4, window=v, return_complex=True),
        (Draw(5)(9), Draw(6).complex(4)),
    ),
    "padded with a complex number": (lambda a: torch.constant_pad_nd(a, (1, 2), 2 - 1j), (z,)),
    "l1_loss": (torch.nn.functional.l1_loss, (z, w)),
}


@pytest.mark.parametrize("name", MIXED)
def test_real_among_complex_numbers(name: str) -> None:
    """A real argument takes the real part, without torch's warning that the rest is dropped."""
    call, args = MIXED[name]
    expected = _gradients(call(*args), list(args))
    with manual_bp.by_hand():
        result = call(*args)
    found = _gradients(result, list(args))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11, equal_nan=True)


def test_where_of_real_and_complex_numbers() -> None:
    """torch's own backward fails here; by hand it is right."""
    condition = torch.tensor([True, False, True])
    with manual_bp.by_hand():
        assert gradcheck(lambda a, b: torch.where(condition, a, b), (x, z))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: torch.view_as_complex(a).mul_(1j),
        lambda a: torch.view_as_real(torch.view_as_complex(a)).mul_(2),
        lambda a: torch.view_as_complex(a).real.add_(1),
        lambda a: torch.view_as_complex(a).conj().mul_(1j),
    ],
    ids=["view_as_complex", "view_as_real", "real", "conj"],
)
def test_a_complex_view_is_not_modified_in_place(change: Callable[[Tensor], Tensor]) -> None:
    """What is a view under another dtype cannot be replayed on its base: refused, not wrong."""
    pairs = Draw()(3, 2)
    with manual_bp.by_hand(), pytest.raises(RuntimeError, match="is a view and is being modified"):
        change(pairs * 2)
