import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lightning_modules.callbacks.gradient_norms import _PIECE, norms
from lightning_modules.callbacks.histogram import Histogram, histogram, sample

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def expected_counts(values: np.ndarray, found: Histogram) -> list[int]:
    """Count by comparing: a bucket of negative values holds its left edge, not its right one."""
    limits = [-math.inf, *found.bucket_limits]
    counts = []
    for left, right in pairwise(limits):
        if right <= 0:
            # -0.0 lies in the last of the negative buckets
            inside = (left < values) & (values <= right) & ((values < 0) | np.signbit(values))
        else:
            inside = (left <= values) & (values < right) & ~np.signbit(values)
        counts.append(int(inside.sum()))
    return counts


@example([3.4028234663852886e38, -3.4028234663852886e38])
@example([0.0, -0.0, 1e-45, -1e-45])
@given(st.lists(floats, min_size=1, max_size=50))
def test_each_value_is_in_its_bucket_and_none_is_lost(listed: list[float]) -> None:
    values = np.array(listed, dtype=np.float32)
    found = histogram(values)
    assert found is not None
    assert found.num == sum(found.bucket_counts) == len(values)
    assert found.bucket_counts == expected_counts(values.astype(np.float64), found)
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.bucket_limits == sorted(found.bucket_limits)
    assert np.isfinite(found.bucket_limits).all()
    exact = values.astype(np.float64)
    assert found.sum == pytest.approx(math.fsum(exact), rel=1e-9, abs=1e-9 * np.abs(exact).max())
    assert found.sum_squares == pytest.approx(math.fsum(exact**2), rel=1e-9)


def test_the_buckets_are_an_eighth_of_an_octave_and_empty_runs_cost_one() -> None:
    found = histogram(np.array([1.0, 1.125, 1.9, 32.0], dtype=np.float32))
    assert found is not None
    assert found.bucket_limits == [1, 1.125, 1.25, 1.875, 2, 32, 36]
    assert found.bucket_counts == [0, 1, 1, 0, 1, 0, 1]


def test_far_below_the_largest_value_a_bucket_is_an_octave() -> None:
    found = histogram(np.array([-1.0, -1.125, 1.9, 1024.0], dtype=np.float32))
    assert found is not None
    assert found.bucket_limits == [-2, -1, 1, 2, 1024, 1152]
    assert found.bucket_counts == [0, 2, 0, 1, 0, 1]


def test_many_values_fill_few_buckets() -> None:
    values = np.random.default_rng(0).normal(size=65536).astype(np.float32)
    found = histogram(values)
    assert found is not None and len(found.bucket_limits) < 140


@pytest.mark.parametrize("values", [[], [math.nan, math.inf, -math.inf]])
def test_nothing_finite_gives_no_histogram(values: list[float]) -> None:
    assert histogram(np.array(values, dtype=np.float32)) is None


def test_a_small_tensor_is_taken_whole() -> None:
    x = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(sample(x, 20), x.flatten().float())
    assert sample(x.T, 20).shape == (20,)


@pytest.mark.parametrize("shape", [(1024, 1024), (512, 3, 3, 64), (100_003,), (2, 65536)])
def test_a_sample_is_bounded_and_meets_every_row_and_column(shape: tuple[int, ...]) -> None:
    limit = 65536
    for dim, size in enumerate(shape):
        # a tensor whose values are their own index along one dimension
        index = torch.arange(size).view([-1 if d == dim else 1 for d in range(len(shape))])
        taken = sample(index.expand(shape).float(), limit)
        assert limit / 2.1 < len(taken) <= limit
        if size <= 1024:
            assert len(taken.unique()) == size


def test_norms_of_many_values_keep_six_digits() -> None:
    many = torch.randn(3_000_001, generator=torch.Generator().manual_seed(0))
    (found,) = norms([many])
    assert found == pytest.approx(float(many.double().norm()), rel=2e-6)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_norms_at_the_edge_of_a_piece(more: int) -> None:
    many = torch.randn(_PIECE + more, generator=torch.Generator().manual_seed(0))
    many[-1] = 1e4  # so that a last value left out, or counted twice, is seen
    transposed = torch.randn(700, 800, generator=torch.Generator().manual_seed(1)).T
    expected = [float(x.double().norm()) for x in (many, transposed)]
    assert norms([many, transposed]) == pytest.approx(expected, rel=2e-6)


def test_norms_of_several_dtypes_at_once_and_of_nothing() -> None:
    tensors = [torch.full((4,), 3.0, dtype=d) for d in (torch.float64, torch.float32, torch.half)]
    assert norms(tensors) == [6, 6, 6]
    assert norms([]) == []
    assert norms([torch.tensor([3 + 4j]), torch.zeros(2, dtype=torch.complex64)]) == [5, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_norms_are_vector_norms(dtype: torch.dtype) -> None:
    tensors = [torch.randn(shape).to(dtype) for shape in ((3, 4), (1000,), (1,))] + [
        torch.zeros(5, dtype=dtype)
    ]
    expected = [float(torch.linalg.vector_norm(t, dtype=torch.float64)) for t in tensors]
    assert norms(tensors) == pytest.approx(expected, rel=1e-6)


def test_norms_beyond_the_range_of_float32_squares() -> None:
    tensors = [torch.full((4,), value) for value in (1e30, 1e-30, 3e38, math.nan, math.inf)]
    found = norms(tensors)
    assert found[:3] == pytest.approx([2e30, 2e-30, 6e38], rel=1e-6)
    assert math.isnan(found[3])
    assert found[4] == math.inf
