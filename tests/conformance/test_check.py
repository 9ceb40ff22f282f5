"""The checker itself: what it promises to its caller, and what it does with bad input."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import Function

from manual_bp.conformance import check
from manual_bp.conformance.library import check_layer
from manual_bp.conformance.probes import TRANSFORMS
from manual_bp.layers import SPECS


def square(backward):
    """x^2 with a backward that is wrong in form."""

    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

    Square.backward = staticmethod(backward)  # type: ignore[method-assign]
    return Square.apply


def right(ctx, g):
    return 2 * g * ctx.saved_tensors[0]


def test_right_one_passes_in_few_calls():
    manual, calls = square(right), []

    def counted(x):
        calls.append(x.shape)
        return manual(x)

    assert check(counted, torch.square, torch.randn(4, 8)).passed
    assert 80 < len(calls) < 300  # each of them is a millisecond or less


def test_nothing_of_the_caller_is_touched():
    x, w = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6)
    before = x.detach().clone(), w.clone(), torch.get_rng_state()
    dtype, mode = torch.get_default_dtype(), torch.is_grad_enabled()
    assert check(F.linear, F.linear, x, w).passed
    assert torch.equal(x, before[0]) and torch.equal(w, before[1]) and x.grad is None
    assert torch.equal(torch.get_rng_state(), before[2])
    assert (dtype, mode) == (torch.get_default_dtype(), torch.is_grad_enabled())


def test_same_seed_same_report():
    def texts():
        report = check(square(lambda ctx, g: g), torch.square, torch.randn(2, 3), seed=5)
        return [failure.to_dict() for failure in report.failures]

    torch.manual_seed(1)
    first = texts()
    torch.manual_seed(1)
    assert texts() == first


def test_which_inputs_are_differentiated():
    x, t = torch.randn(4, 3), torch.randn(4, 3)
    names = check(F.mse_loss, F.mse_loss, x, t, probes=["example"]).agreement
    assert set(names) == {"gradient of input", "gradient of target"}
    names = check(F.mse_loss, F.mse_loss, x.requires_grad_(), t, probes=["example"]).agreement
    assert set(names) == {"gradient of input"}


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda ctx, g: (g, g), "incorrect number of gradients"),
        (lambda ctx, g: g[:2], "invalid gradient"),
        (lambda ctx, g: 3.0, "raises"),
        (lambda ctx, g: 1 / 0, "ZeroDivisionError"),
        (lambda ctx, g: None, "is None"),
    ],
)
def test_malformed_backward_is_a_failed_probe(backward, message):
    report = check(square(backward), torch.square, torch.randn(4, 6))
    assert not report.passed
    assert message in report.text(width=300)


@pytest.mark.parametrize(
    ("manual", "message"),
    [
        (lambda x: x.detach() ** 2, "does not require a gradient"),
        (lambda x: (x * x)[:2], "has shape"),
        (lambda x: (x * x).float(), "has dtype"),
        (lambda x: "text", "is 0 tensors, autograd's 1"),
        (lambda x: (x * x, x), "is 2 tensors, autograd's 1"),
        (lambda x: x.no_such_method(), "AttributeError"),
        (lambda: None, "TypeError"),
    ],
)
def test_malformed_forward_is_a_failed_probe(manual, message):
    report = check(manual, torch.square, torch.randn(4, 6))
    assert not report.passed
    assert message in report.text(width=300)


def test_hanging_is_a_failed_probe():
    def hang(x):
        while x.shape[0] == 0:
            pass
        return x * x

    start = time.monotonic()
    report = check(hang, torch.square, torch.randn(4, 6), probes=["empty"], timeout=0.5)
    assert "did not end within 0.5 s" in report.text()
    assert time.monotonic() - start < 5


def test_reference_that_refuses_the_example():
    with pytest.raises(ValueError, match=r"the reference refuses it \(RuntimeError: "):
        check(torch.square, lambda x: x @ x, torch.randn(4, 6))


def test_unknown_probe_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'kinks'"):
        check(torch.square, torch.square, torch.randn(3), probes=["kink"])
    with pytest.raises(ValueError, match="no probe"):
        check(torch.square, torch.square, torch.randn(3), skip=["nonsense"])


def test_probes_can_be_chosen_and_skipped():
    report = check(torch.square, torch.square, torch.randn(3), probes=["zeros", "example"])
    assert [probe.name for probe in report.probes] == ["example", "zeros"]
    report = check(torch.square, torch.square, torch.randn(3), skip=["zeros"])
    assert "zeros" not in [probe.name for probe in report.probes]


def test_transforms():
    chosen = ["func.grad", "vmap", "jvp", "autocast"]
    report = check(torch.tanh, F.tanh, torch.randn(3, 4), probes=chosen)
    assert {probe.status for probe in report.probes} == {"passed"}
    old_style = check(square(right), torch.square, torch.randn(3, 4), probes=["vmap"])
    assert old_style.passed and "setup_context" in old_style.text(width=300)


@pytest.mark.slow
def test_all_transforms():
    report = check(square(right), torch.square, torch.randn(3, 4), transforms=True, skip=["large"])
    status = {probe.name: probe.status for probe in report.probes}
    assert set(TRANSFORMS) <= set(status)
    assert status["compile"] == status["autocast"] == "passed"
    assert status["vmap"] == "left out"


def test_lists_keywords_and_several_outputs():
    parts = [torch.randn(2, 3), torch.randn(4, 3)]
    report = check(torch.cat, torch.cat, parts, kwargs={"dim": 0})
    assert report.passed
    assert set(report.agreement) == {"gradient of input 0[0]", "gradient of input 0[1]"}
    assert check(torch.linalg.qr, torch.linalg.qr, torch.randn(4, 3), probes=["example"]).passed


def test_modules_are_checked_with_their_parameters():
    class Linear(torch.nn.Linear):
        def forward(self, input):
            return F.linear(input, self.weight.detach(), self.bias)

    x = torch.randn(4, 3)
    report = check(Linear(3, 2), torch.nn.Linear(3, 2), x)
    assert "gradient of weight is None" in report.text(width=300)
    right = check(torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3), x)
    assert right.passed and set(right.agreement) == {
        "gradient of input",
        "gradient of weight",
        "gradient of bias",
    }


def test_float32_when_asked_for():
    assert check(F.gelu, F.gelu, torch.randn(4, 6), dtype=torch.float32).passed


def test_the_dtype_of_the_comparison_is_told():
    report = check(torch.square, torch.square, torch.randn(2, 3), probes=["example"])
    assert "the example is float32; compared in float64" in report.text()

    def narrow(x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return x * x

    report = check(narrow, torch.square, torch.randn(2, 3), probes=["example"])
    assert report.passed and "float64 is refused (TypeError: float32 only)" in report.text()


def test_sparse_tensors_are_constants_and_sparse_gradients_numbers():
    adjacency = torch.randn(4, 4).relu().to_sparse()
    x = torch.randn(4, 3, requires_grad=True)
    report = check(torch.sparse.mm, lambda a, x: a.to_dense() @ x, adjacency, x)
    assert report.passed and set(report.agreement) == {"gradient of x"}
    assert "a: sparse float64 4x4" in report.text()
    dense, sparse = (lambda i, w, s=s: F.embedding(i, w, sparse=s) for s in (False, True))
    weight = torch.randn(5, 3, requires_grad=True)
    assert check(sparse, dense, torch.tensor([1, 1, 4]), weight).passed


def test_the_librarys_own_layers():
    (spec,) = (spec for spec in SPECS if spec.name == "tanh")
    result = check_layer(spec)
    assert result.passed and result.samples > 0 and result.cases > 50
