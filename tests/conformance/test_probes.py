"""Each probe, alone, sees the error that it is there for."""

import pytest

from manual_bp.conformance.probes import PROBES, TRANSFORMS

from .mutants import WRONG
from .test_mutants import verdict

SEES = {
    "example": "layer norm: mean of the gradient left out",
    "frozen inputs": "linear: bias gradient saved only for the weight",
    "unused outputs": "sine and cosine: nothing when one output is unused",
    "cotangents": "attention scores: grad read with the strides of the output",
    "layouts": "group norm: weight gradient wrong for channels last",
    "sizes": "mean: divides by the size of the example",
    "empty": "normalise by the largest: fails for an empty batch",
    "ranks": "linear: transposes with t()",
    "large": "embedding: wrong beyond 768 indices",
    "zeros": "product: divides by the input",
    "kinks": "hardtanh: slope at the upper bound",
    "ties": "amax: gradient to every tie in full",
    "signs": "divide: sign of a negative divisor",
    "extremes": "log sum exp: no shift by the maximum in the backward",
    "indices": "embedding: repeated rows overwrite each other",
    "masks": "masked fill: a fully masked row divides by zero",
    "options": "add with alpha: alpha left out",
    "one tensor twice": "swiglu: backward writes into its inputs",
    "two calls": "tanh: state on the class",
    "two backwards": "scatter: cache cleared by the first backward",
    "overwritten in between": "multiply: input kept as an attribute",
    "second order": "sinh: saves an intermediate",
    "modes": "square: needs its graph in the forward",
    "aliases": "scale: by one, the input's memory is the output's",
    "kept alive": "exp: output on ctx, and used",
    "float32": "variance: one pass, cancels at a large mean",
    "bfloat16": "rms norm: weight gradient accumulated in the input's precision",
    "float16": "group norm: float16 gradients rounded to bfloat16",
    "float16 range": "rms norm: squares overflow in float16",
}


def test_no_probe_is_without_an_error_that_it_sees():
    assert set(SEES) == {probe.name for probe in PROBES} - set(TRANSFORMS)


@pytest.mark.parametrize("name", SEES)
def test_probe_sees(name):
    (entry,) = (entry for entry in WRONG if entry.name == SEES[name])
    # A small share of the seeds shows a zero or a tie in the example itself.
    assert any(not verdict(entry, seed, probes=[name]).passed for seed in range(2))


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_every_probe_says_what_it_finds(probe):
    assert 20 < len(probe.finds) < 120
