"""The pytest face, used as a project of its own uses it."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from manual_bp.conformance import equivalent_to

PROJECT = Path(__file__).parents[1] / "example_project"


@equivalent_to(F.silu, lambda: torch.randn(3, 4), seeds=(0, 1), probes=["example"])
def test_decorated(x):
    return x * torch.sigmoid(x)


@pytest.mark.parametrize("slope", [0.1, 0.3])
@equivalent_to(lambda x, slope: F.leaky_relu(x, slope), torch.randn(3, 4), probes=["example"])
def test_other_parameters_are_pytests(x, slope):
    return torch.where(x > 0, x, slope * x)


def test_failure_is_the_report():
    @equivalent_to(F.silu, torch.randn(3, 4))
    def test(x):
        return x * torch.tanh(x)

    assert not inspect.signature(test).parameters
    with pytest.raises(AssertionError, match="output differs"):
        test()


def run_pytest(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "words", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_wrong_backward_fails_in_a_users_project(tmp_path):
    folder = Path(shutil.copytree(PROJECT, tmp_path / "project"))
    source = folder / "swish.py"
    # The planted error: a trained slope counts once for each row instead of once.
    source.write_text(source.read_text().replace("* s * (1 - s)).sum()", "* s * (1 - s)).mean()"))
    result = run_pytest(folder)
    assert result.returncode == 1
    assert "gradient of slope differs" in result.stdout
    assert "number of elements 6 of x" in result.stdout
    # The reader sees the report, not the inside of the checker.
    assert "conformance/check.py" not in result.stdout
