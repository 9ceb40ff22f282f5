"""The text of a report is enough to find the line."""

import json

import pytest
import torch
import torch.nn.functional as F

from manual_bp.conformance import assert_equivalent, check
from manual_bp.spec import Draw

from .mutants import WRONG


def report_on(name, **options):
    (entry,) = (entry for entry in WRONG if entry.name == name)
    return check(entry.manual, entry.reference, *entry.inputs(Draw(0)), name=name, **options)


def test_layer_norm_without_the_mean_term_names_the_term():
    text = report_on("layer norm: mean of the gradient left out").text(width=1000)
    assert "gradient of x differs" in text
    assert "a term that is summed or averaged over dim 1, such as mean(grad_output)" in text
    assert "gradient of weight" not in text


@pytest.mark.parametrize(
    ("name", "clue"),
    [
        ("cross-entropy: gradient not divided by the batch", "the size 5 of dim 0 of x"),
        ("mse: factor two forgotten", "0.5 times autograd's"),
        ("bce with logits: sign of the target", "the sign"),
        ("layer norm: term of the variance left out", "a multiple of x"),
        ("layer norm: returns zeros", "zero everywhere"),
        ("swiglu: results stored in each other's buffer", "equals autograd's gradient of b"),
        ("hardtanh: slope at the upper bound", "wrong only where x is 1"),
        ("sigmoid: exp(x) overflows", "NaN"),
        ("sine: computed in float32 inside", "size of float32 rounding"),
        ("flip and roll: rolls the same way back", "rolled by 2 along dim 1"),
        ("cumulative sum: tail of a block left out", "wrong only at index [16] of dim 1"),
    ],
)
def test_clue(name, clue):
    assert clue in report_on(name).text(width=1000)


def test_smallest_case_is_shown():
    failure = report_on("mse: factor two forgotten").failures[0]
    assert failure.call == "x: float64 1x1, target: float64 1x1"
    assert set(failure.values) == {"x", "target"}
    assert failure.problem.mismatch.index == (0, 0)


def test_report_as_data():
    report = report_on("mse: factor two forgotten")
    data = json.loads(report.to_json())
    assert data == json.loads(json.dumps(report.to_dict()))
    assert data["passed"] is False
    (example, *_) = data["probes"]
    assert example["status"] == "failed"
    assert example["failures"][0]["mismatch"]["relative_error"] == pytest.approx(0.5)


def test_passing_report():
    report = check(torch.tanh, F.tanh, torch.randn(3, 4))
    assert report and report.passed and not report.failures
    assert "gradients of the example agree to 0.0e+00 (the same bits)" in report.text()
    assert report.agreement == {"gradient of input": (0.0, 0.0)}


def test_plain_when_piped_coloured_on_a_terminal(monkeypatch):
    import sys

    report = check(torch.tanh, F.tanh, torch.randn(3, 4), probes=["example"])
    assert "\x1b[" not in str(report)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[" in str(report)
    assert "\x1b[" not in report.text()


def test_assert_equivalent_raises_the_report():
    x = torch.randn(3, 4)
    assert_equivalent(torch.tanh, F.tanh, x, probes=["example"])
    with pytest.raises(AssertionError, match="output differs"):
        assert_equivalent(torch.tanh, torch.sigmoid, x, probes=["example"])


def test_what_is_left_out_says_why():
    report = check(torch.log, torch.log, torch.rand(3, 4) + 0.1)
    assert report.passed
    reasons = {reason for probe in report.probes for reason in probe.reasons}
    assert "the reference's output is not finite" in reasons
    assert "nothing to vary" in reasons
