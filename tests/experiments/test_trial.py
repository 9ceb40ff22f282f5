import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import trial as trials
from experiments.trial import Outcome, Trial

TRIAL = Trial("arm-seed0", {"arm": "a"}, {"seed_everything": 0, "trainer": {"max_epochs": 1}})
OUTCOME = Outcome(
    metrics={"test/loss": 0.1 + 0.2, "broken": float("inf")},
    curves={"train/loss": [0.1, float("nan"), 1e-300]},
    all_by_hand=True,
    weights={"layer.weight": np.arange(6.0).reshape(2, 3)},
)


def finish(home: Path, trial: Trial = TRIAL) -> Path:
    folder = trial.place(home).parent
    trials.write(folder, trial, OUTCOME, 1.0)
    return folder


def test_a_result_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    result = trials.read(TRIAL, tmp_path)
    assert result is not None and result.current and result.all_by_hand is True
    assert result.metrics["test/loss"] == 0.1 + 0.2
    assert np.isnan(result.metrics["broken"])  # what is not finite comes back as NaN
    np.testing.assert_array_equal(result.curves["train/loss"], [0.1, np.nan, 1e-300])
    np.testing.assert_array_equal(result.weights()["layer.weight"], OUTCOME.weights["layer.weight"])
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "result.json",
        "weights.npz",
    }


def test_no_result_and_a_damaged_one_count_as_unfinished(tmp_path: Path) -> None:
    assert trials.read(TRIAL, tmp_path) is None
    result = finish(tmp_path) / "result.json"
    whole = result.read_text(encoding="utf-8")
    for text in (whole[: len(whole) // 2], "", "{}", "[]", "null"):
        result.write_text(text, encoding="utf-8")
        assert trials.read(TRIAL, tmp_path) is None


def test_a_result_without_its_weights_is_not_reused(tmp_path: Path) -> None:
    (finish(tmp_path) / "weights.npz").unlink()
    result = trials.read(TRIAL, tmp_path)
    assert result is not None and not result.current


def test_a_result_of_other_code_is_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path)
    monkeypatch.setattr(trials, "code", lambda: "other")
    result = trials.read(TRIAL, tmp_path)
    assert result is not None and not result.current


def test_a_write_that_fails_leaves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TRIAL.place(tmp_path).parent

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OSError, match="No space"):
        trials.write(folder, TRIAL, OUTCOME, 1.0)
    assert not list(folder.glob("*result*"))


def test_what_decides_the_outcome_decides_the_folder(tmp_path: Path) -> None:
    other = replace(TRIAL, config={**TRIAL.config, "seed_everything": 1})
    runner = replace(TRIAL, runner="elsewhere:train")
    labelled = replace(TRIAL, labels={"arm": "b"})
    assert len({t.folder(tmp_path) for t in (TRIAL, other, runner)}) == 3
    assert labelled.folder(tmp_path) == TRIAL.folder(tmp_path)
    assert TRIAL.key == replace(TRIAL, config=dict(reversed([*TRIAL.config.items()]))).key
