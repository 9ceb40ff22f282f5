"""``python -m manual_bp check``."""

import json
from pathlib import Path

import pytest

from manual_bp.conformance.cli import main

SWISH = str(Path(__file__).parents[1] / "example_project" / "swish.py")
INPUT = ["--input", "randn(3, 4), randn(())"]


def test_right_function(capsys):
    against = ["--against", f"{SWISH}:swish_by_autograd", *INPUT]
    assert main([f"{SWISH}:Swish", *against, "--probe", "example"]) == 0
    assert "passed" in capsys.readouterr().out


def test_wrong_function(capsys, tmp_path):
    wrong = tmp_path / "wrong.py"
    text = Path(SWISH).read_text().replace("(s + slope * x * s * (1 - s))", "s")
    wrong.write_text(text)
    against = ["--against", f"{SWISH}:swish_by_autograd", *INPUT]
    assert main([f"{wrong}:Swish", *against]) == 1
    out = capsys.readouterr().out
    assert "gradient of x differs" in out and "FAILED" in out
    assert main([f"{wrong}:swish", *against, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gelo"], "did you mean 'gelu'?"),
        (["gelu", "--against", "torch:relu"], "--against goes with path/to/file.py:Name"),
        (["missing.py:F", "--against", "torch:relu", *INPUT], "there is no file missing.py"),
        ([SWISH, "--against", "torch:relu", *INPUT], "which function"),
        ([f"{SWISH}:Swash", "--against", "torch:relu", *INPUT], "did you mean 'Swish'?"),
        ([f"{SWISH}:Swish", *INPUT], "--against is missing"),
        ([f"{SWISH}:Swish", "--against", "torch:relu"], "--input is missing"),
        ([f"{SWISH}:Swish", "--against", "torch:rellu", *INPUT], "did you mean 'relu'?"),
        ([f"{SWISH}:Swish", "--against", "no.such:thing", *INPUT], "cannot be imported"),
        ([f"{SWISH}:Swish", "--against", "torch:relu", "--input", "randm(1)"], "has no value"),
        (["torch.nn.functional.gelu"], "a function of your own is path/to/file.py:Name"),
        ([f"{SWISH}:Swish", "--against", "torch:pi", *INPUT], "is a float, which cannot be called"),
        (["sys:maxsize", "--against", "torch:relu", *INPUT], "is an int, which cannot be called"),
        (["--seed", "one"], "'one' is not a whole number"),
        (["--seed", str(2**63)], "not a whole number of at most 64 bits"),
        (["--probe", "exampel"], "there is no probe"),
        (["gelu", "--device", "warp"], "cannot be used"),
        (["gelu", "--jobs", "-1"], "--jobs is -1; expected 1 or more"),
        ([f"{SWISH}:Swish", "--against", "torch:matmul", *INPUT], "the reference refuses it"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(argv, message, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == "" and captured.err.count("\n") == 1


def test_library_layers(capsys):
    assert main(["tanh", "sigmoid", "--probe", "example"]) == 0
    out = capsys.readouterr().out
    assert "2 layers" in out and "nothing found" in out


def test_a_single_layer_is_one_layer(capsys):
    assert main(["tanh", "--probe", "example"]) == 0
    assert "\n1 layer of manual_bp, " in capsys.readouterr().out


def test_help_warns_that_files_are_run(capsys):
    assert main(["--help"]) == 0
    assert "check only what you trust" in capsys.readouterr().out
    assert main(["--list-probes"]) == 0
    assert "kinks" in capsys.readouterr().out
