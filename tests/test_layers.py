"""The proof, generated over the specs: every layer and operation against torch.autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

import manual_bp
from manual_bp.conformance import assert_equivalent
from manual_bp.conformance.purity import only_by_hand
from manual_bp.layers import SPECS
from manual_bp.ops.add import add
from manual_bp.spec import Draw, Sample, Samples, Spec


def _each(
    samples: Callable[[Spec], Samples], keep: Callable[[Spec], bool] = lambda spec: True
) -> pytest.MarkDecorator:
    """One test for each spec and sample."""
    cases = [
        pytest.param(spec, i, id=f"{spec.name}-{s.label or i}")
        for spec in SPECS
        if keep(spec)
        for i, s in enumerate(samples(spec)(Draw()))
    ]
    return pytest.mark.parametrize(("spec", "i"), cases)


def _nth(samples: Samples, i: int, draw: Draw) -> Sample:
    return list(samples(draw))[i]


def _on_a_copy(f: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that writes into its first argument may not be given a leaf."""
    return lambda x, *args, **kwargs: f(x.clone(), *args, **kwargs)


def _pair(spec: Spec, s: Sample) -> tuple[Callable[..., Any], Callable[..., Any]]:
    manual, native = partial(spec.manual, **s.kwargs), partial(spec.native, **s.kwargs)
    return (_on_a_copy(manual), _on_a_copy(native)) if spec.modifies else (manual, native)


def _tensors(result: Any) -> list[Tensor]:
    """Those that require a gradient, out of a tensor or of lists and tuples of tensors."""
    return [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.requires_grad]


_differentiated = _tensors


def _of_tensors(
    f: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """``f`` as a function of the differentiated tensors alone, and these."""
    leaves, structure = tree_flatten(args)
    places = [i for i, a in enumerate(leaves) if isinstance(a, Tensor) and a.requires_grad]

    def call(*tensors: Tensor) -> Any:
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        return f(*tree_unflatten(filled, structure))

    return call, tuple(leaves[i] for i in places)


def _seeded(f: Callable[..., Any], *args: Any) -> Any:
    torch.manual_seed(0)
    return f(*args)


def _gradients(f: Callable[..., Any], args: tuple[Any, ...]) -> list[Tensor | None]:
    """Gradients under cotangents that depend on the outputs' shapes alone."""
    outputs = _tensors(_seeded(f, *args))
    cotangents = [Draw(7 + i, y.dtype, y.device).fixed(*y.shape) for i, y in enumerate(outputs)]
    wanted = _differentiated(args)
    return list(torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True))


# What every sample is put to. A spec's first sample goes through all probes, and so do the others
# in `make test-all`.
FEW = {"example", "frozen inputs", "cotangents", "layouts", "second order", "aliases"}


def _equals_autograd(spec: Spec, i: int, probes: set[str] | None) -> None:
    s = _nth(spec.samples, i, Draw())
    manual, native = _pair(spec, s)
    assert_equivalent(manual, native, *s.args, probes=probes, skip=spec.skip)


@_each(lambda spec: spec.samples)
def test_equals_autograd(spec: Spec, i: int) -> None:
    _equals_autograd(spec, i, None if i == 0 else FEW)


@pytest.mark.slow
@_each(lambda spec: spec.samples)
def test_equals_autograd_from_all_sides(spec: Spec, i: int) -> None:
    _equals_autograd(spec, i, None)


@_each(lambda spec: spec.samples, lambda spec: bool(spec.inplace))
def test_in_place_equals_autograd(spec: Spec, i: int) -> None:
    s = _nth(spec.samples, i, Draw())
    if not isinstance(s.args[0], Tensor):
        pytest.skip("a number cannot be written into")
    for native, manual in spec.inplace.items():
        try:
            _gradients(partial(_on_a_copy(native), **s.kwargs), s.args)
        # A result that does not fit, an argument it lacks, a gradient that torch refuses.
        except (RuntimeError, TypeError):
            continue
        assert_equivalent(
            partial(_on_a_copy(manual), **s.kwargs),
            partial(_on_a_copy(native), **s.kwargs),
            *s.args,
            probes=FEW,
        )


@_each(lambda spec: spec.samples, lambda spec: not spec.random)
def test_gradcheck(spec: Spec, i: int) -> None:
    s = _nth(spec.samples, i, Draw())
    if not s.smooth:
        pytest.skip("a kink: a numerical derivative means nothing there")
    manual, _ = _pair(spec, s)
    call, tensors = _of_tensors(manual, s.args)
    assert gradcheck(call, tensors)


def _hand_out(saved: list[Tensor]) -> Tensor:
    """A saved tensor, once: torch.utils.checkpoint forgets what it has handed out."""
    assert saved, "a backward read ctx.saved_tensors twice"
    return saved.pop()


@_each(lambda spec: spec.samples)
def test_is_by_hand(spec: Spec, i: int) -> None:
    """No autograd node, no native backward kernel, no graph, saved tensors read once."""
    s = _nth(spec.samples, i, Draw())
    args, leaves = s.args, _differentiated(s.args)
    if spec.modifies:  # a leaf may not be modified; the copy too is made by hand
        args = (add(args[0], 0.0), *args[1:])
    with torch.autograd.graph.saved_tensors_hooks(lambda t: [t], _hand_out):
        outputs = _tensors(_seeded(partial(spec.manual, **s.kwargs), *args))
    assert (report := manual_bp.audit(outputs)).all_by_hand, report
    cotangents = [Draw(7, y.dtype).fixed(*y.shape) for y in outputs]
    with only_by_hand():
        torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)


@_each(lambda spec: spec.samples, lambda spec: not spec.modifies)
def test_by_hand_takes_the_torch_call(spec: Spec, i: int) -> None:
    s = _nth(spec.samples, i, Draw())
    native = partial(spec.native, **s.kwargs)
    expected = _gradients(native, s.args)
    with manual_bp.by_hand():
        outputs = _tensors(_seeded(native, *s.args))
        found = _gradients(native, s.args)
    assert (report := manual_bp.audit(outputs)).all_by_hand, report
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@_each(lambda spec: spec.refused)
def test_refuses_what_torch_refuses(spec: Spec, i: int) -> None:
    s = _nth(spec.refused, i, Draw())
    with pytest.raises(Exception) as native:
        spec.native(*s.args, **s.kwargs)
    with pytest.raises(native.type) as manual:
        spec.manual(*s.args, **s.kwargs)
    assert str(manual.value).splitlines()[0] == str(native.value).splitlines()[0]


def _first(spec: Spec, draw: Draw) -> Sample:
    return next(iter(spec.samples(draw)))


_specs = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def _loss(f: Callable[..., Any], s: Sample) -> Callable[..., Tensor]:
    """A scalar of the differentiated arguments alone, for torch.func."""
    call, _ = _of_tensors(f, s.args)

    def loss(*tensors: Tensor) -> Tensor:
        outputs = [t for t in tree_leaves(call(*tensors)) if isinstance(t, Tensor)]
        outputs = [torch.view_as_real(y.resolve_conj()) if y.is_complex() else y for y in outputs]
        return sum((y * y.cos()).sum() for y in outputs if y.is_floating_point())  # type: ignore[return-value]

    return loss


@_specs
def test_func_grad_and_vmap(spec: Spec) -> None:
    s = _first(spec, Draw())
    manual, native = _pair(spec, s)
    wanted = [a.detach() for a in _differentiated(s.args)]
    every = tuple(range(len(wanted)))

    gradient = torch.func.grad(_loss(manual, s), argnums=every)

    def reference(*tensors: Tensor) -> tuple[Tensor, ...]:
        # Not by torch.func, through which not every operation of torch goes.
        leaves = [t.detach().requires_grad_() for t in tensors]
        loss = _loss(native, s)(*leaves)
        return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    torch.manual_seed(0)
    found = gradient(*wanted)
    torch.manual_seed(0)
    torch.testing.assert_close(found, reference(*wanted), rtol=1e-10, atol=1e-12)
    if spec.random:
        return  # a batch of draws is not the draws of a batch
    # Within the range of t: a probability stays one.
    batch = [torch.stack([t, 0.5 * t + 0.1, 0.9 * t.flip(0) if t.dim() else t]) for t in wanted]
    if spec.vmap:
        found = torch.func.vmap(gradient)(*batch)
        rows = [reference(*row) for row in zip(*batch, strict=True)]
        expected = tuple(torch.stack(column) for column in zip(*rows, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    else:
        with pytest.raises(RuntimeError):
            torch.func.vmap(gradient)(*batch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's own kernels
@_each(lambda spec: spec.samples, lambda spec: spec.vmap and not spec.random)
def test_every_sample_goes_through_vmap(spec: Spec, i: int) -> None:
    """Or torch's own does not, either."""
    s = _nth(spec.samples, i, Draw())
    manual, native = _pair(spec, s)
    wanted = [a.detach() for a in _differentiated(s.args)]
    if any(a.numel() == 0 for a in wanted):
        pytest.skip("nothing in it")
    every = tuple(range(len(wanted)))
    batch = [torch.stack([t, t, t]) for t in wanted]
    expected = torch.func.grad(_loss(native, s), argnums=every)(*wanted)
    try:
        found = torch.func.vmap(torch.func.grad(_loss(manual, s), argnums=every))(*batch)
    except (RuntimeError, IndexError):
        with pytest.raises((RuntimeError, IndexError)):
            torch.func.vmap(torch.func.grad(_loss(native, s), argnums=every))(*batch)
        return
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, torch.stack([b, b, b]), rtol=1e-8, atol=1e-9, equal_nan=True)


@_specs
def test_autocast(spec: Spec) -> None:
    """Under autocast: the dtypes torch gives, and gradients as near to float32's as torch's."""
    s = _first(spec, Draw(dtype=torch.float32))
    manual, native = _pair(spec, s)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = _tensors(_seeded(manual, *s.args)), _tensors(_seeded(native, *s.args))
    assert [y.dtype for y in ours] == [y.dtype for y in theirs]
    cotangents = [Draw(7, y.dtype).fixed(*y.shape) for y in ours]
    wanted = _differentiated(s.args)
    found = torch.autograd.grad(ours, wanted, cotangents, allow_unused=True)
    expected = torch.autograd.grad(theirs, wanted, cotangents, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=4e-2, atol=4e-2)  # bfloat16 has 8 bits


@_specs
def test_compiles_whole(spec: Spec) -> None:
    """One graph, traced forward and backward; aot_eager leaves out the code generator alone."""
    if not spec.compiles:
        pytest.skip(f"{spec.name} says that it does not compile")
    s = _first(spec, Draw())
    manual, _ = _pair(spec, s)
    torch._dynamo.reset()
    compiled = torch.compile(manual, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        _gradients(compiled, s.args), _gradients(manual, s.args), rtol=1e-10, atol=1e-12
    )


@pytest.mark.slow
@_each(lambda spec: spec.samples, lambda spec: spec.compiles)
def test_every_sample_compiles_whole(spec: Spec, i: int) -> None:
    s = _nth(spec.samples, i, Draw())
    manual, _ = _pair(spec, s)
    torch._dynamo.reset()
    compiled = torch.compile(manual, fullgraph=True, backend="aot_eager")
    found, expected = _gradients(compiled, s.args), _gradients(manual, s.args)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12, equal_nan=True)


def _module_cases() -> Iterator[Any]:
    for spec in SPECS:
        for module, samples in spec.modules.items():
            for i, s in enumerate(samples(Draw())):
                yield pytest.param(module, samples, i, id=f"{module.__name__}-{s.label or i}")


_modules = pytest.mark.parametrize(("module", "samples", "i"), list(_module_cases()))


@_modules
def test_module_equals_torch_nn(module: type[torch.nn.Module], samples: Samples, i: int) -> None:
    """Same constructor, state dict, outputs, gradients and buffers; training and evaluation."""
    s = _nth(samples, i, Draw())
    inputs = s.args[0] if isinstance(s.args[0], tuple) else (s.args[0],)
    native_class = module.__mro__[1]
    assert native_class.__module__.startswith("torch.nn.modules")
    assert native_class.__name__ == module.__name__
    native = native_class(*s.args[1:], **s.kwargs).double()
    torch.manual_seed(1)
    with torch.no_grad():  # the initial weights are often ones and zeros, which hide errors
        for parameter in native.parameters():
            parameter.normal_()
    manual = module(*s.args[1:], **s.kwargs).double()
    manual.load_state_dict(native.state_dict())
    native.load_state_dict(manual.state_dict())
    assert isinstance(manual, native_class)
    assert repr(manual) == repr(native)
    for training in (True, True, False):  # twice in training: running statistics move
        manual.train(training)
        native.train(training)
        found = _gradients(lambda *_: manual(*inputs), (*inputs, *manual.parameters()))
        expected = _gradients(lambda *_: native(*inputs), (*inputs, *native.parameters()))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            dict(manual.named_buffers()), dict(native.named_buffers()), rtol=1e-12, atol=1e-12
        )
    manual.train()  # in evaluation a layer may be the identity, which leaves no node to look at
    outputs = _tensors(_seeded(manual, *inputs))
    assert (report := manual_bp.audit(outputs)).all_by_hand, report


@_modules
def test_module_copies(module: type[torch.nn.Module], samples: Samples, i: int) -> None:
    s = _nth(samples, i, Draw(dtype=torch.float32))
    inputs = s.args[0] if isinstance(s.args[0], tuple) else (s.args[0],)
    manual = module(*s.args[1:], **s.kwargs)
    twin = copy.deepcopy(manual)
    for a, b in zip(
        _tensors(_seeded(manual, *inputs)), _tensors(_seeded(twin, *inputs)), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@_each(lambda spec: spec.samples, lambda spec: not spec.random)
def test_equals_autograd_on_cuda(spec: Spec, i: int) -> None:
    s = _nth(spec.samples, i, Draw(device="cuda"))
    manual, native = _pair(spec, s)
    found, expected = _gradients(manual, s.args), _gradients(native, s.args)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
