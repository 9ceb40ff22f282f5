"""What counts as equal."""

import math

import torch

from manual_bp.conformance.compare import differ, ulps_between


def tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_equal_within_the_largest_element():
    assert differ(tensor(1e6, 1e-5), tensor(1e6, 2e-5), rtol=1e-10) is None
    assert differ(tensor(1e6, 1e-3), tensor(1e6, 2e-3), rtol=1e-10) is not None


def test_gradient_that_cancels_is_measured_by_its_usual_size():
    assert differ(tensor(3e-16), tensor(0.0), rtol=1e-10, scale=1.0) is None
    assert differ(tensor(3e-11), tensor(0.0), rtol=1e-10, scale=1.0) is not None


def test_nan_counts_where_the_reference_is_finite():
    nan, inf = math.nan, math.inf
    mismatch = differ(tensor(1.0, nan), tensor(1.0, 2.0), rtol=1e-10)
    assert mismatch is not None and mismatch.index == (1,)
    assert differ(tensor(1.0, 5.0), tensor(1.0, nan), rtol=1e-10) is None
    assert differ(tensor(1.0, 5.0), tensor(1.0, inf), rtol=1e-10) is None
    assert differ(tensor(inf, 1.0), tensor(1.0, 1.0), rtol=1e-10) is not None


def test_worst_element_is_named():
    mismatch = differ(torch.zeros(2, 3), torch.tensor([[0.0, 1, 0], [0, 0, -5]]), rtol=1e-6)
    assert mismatch is not None
    assert mismatch.index == (1, 2) and mismatch.wrong == 2 and mismatch.total == 6
    assert mismatch.relative == 1.0


def test_integers_and_masks_are_compared_exactly():
    a = torch.tensor([1, 2, 3])
    assert differ(a, a.clone(), rtol=0.1) is None
    assert differ(a, a + 1, rtol=10.0) is not None
    assert differ(a > 1, a > 2, rtol=0.1) is not None


def test_ulps():
    assert ulps_between(1 + 2**-52, 1.0, torch.float64) == 1
    assert ulps_between(1 + 3 * 2**-23, 1.0, torch.float32) == 3
    assert ulps_between(math.nan, 1.0, torch.float64) == math.inf
    assert ulps_between(5, 3, torch.int64) == 2
