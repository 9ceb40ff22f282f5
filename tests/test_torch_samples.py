"""PyTorch's own sample inputs: what is by hand is right on them, too.

``python -m manual_bp list --missing`` names the entries that autograd still has a part in.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import islice

import pytest
import torch

from manual_bp import coverage
from manual_bp.coverage import Entry

ENTRIES = [*coverage.modules(), *coverage.operations()]
COMPLEX = [*coverage.operations(torch.complex128)]

# Samples of each entry; `make test-all` takes them all.
FEW = 4


def _prove(entry: Entry, samples: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the registries take deprecated paths on purpose
        for run in islice(entry.runs(), samples):
            assert coverage.examine(run).error < 1e-8


def _prove_complex(entry: Entry, samples: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for run in islice(entry.runs(), samples):
            try:
                run.call()
            except RuntimeError:  # PyTorch's own samples, which it refuses
                continue
            assert coverage.examine(run).error < 1e-8


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.kind}-{e.name}")
def test_gradients_on_torchs_samples(entry: Entry) -> None:
    _prove(entry, FEW)


@pytest.mark.parametrize("entry", COMPLEX, ids=lambda e: e.name)
def test_gradients_on_torchs_complex_samples(entry: Entry) -> None:
    _prove_complex(entry, 1)


@pytest.mark.slow
@pytest.mark.parametrize("entry", COMPLEX, ids=lambda e: e.name)
def test_gradients_on_all_of_torchs_complex_samples(entry: Entry) -> None:
    _prove_complex(entry, None)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.kind}-{e.name}")
def test_gradients_on_all_of_torchs_samples(entry: Entry) -> None:
    _prove(entry, None)


def test_every_registry_entry_is_looked_at() -> None:
    kinds = [entry.kind for entry in ENTRIES]
    assert kinds.count("module") >= 114
    assert kinds.count("functional") >= 115


def test_an_error_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import manual_bp

    entry = next(e for e in ENTRIES if e.name == "nn.functional.relu")
    run = next(entry.runs())
    with manual_bp.register(torch.nn.functional.relu, lambda x, inplace=False: x * 1.0):
        assert coverage.examine(run).error > 1e-3


def test_the_registries_leave_the_process_as_it_was() -> None:
    run = (
        "import torch; from manual_bp import coverage; next(coverage.operations());"
        "torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark"
    )
    subprocess.run([sys.executable, "-c", run], check=True)
