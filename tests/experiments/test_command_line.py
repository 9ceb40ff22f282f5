import errno
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import catalog, cli, commands

REFUSED = [
    (["rnu"], "there is no command 'rnu'; did you mean 'run'?"),
    (["run", "optimisers"], "there is no study 'optimisers'; did you mean 'optimizers'?"),
    (["report", "zzz"], "there is no study 'zzz'; there is: "),
    (["run"], "the following arguments are required: STUDY"),
    (["run", "xor", "--seeds", "0"], "--seeds is '0'; expected a whole number of 1 or more"),
    (["run", "xor", "--seeds", "1.5"], "--seeds is '1.5'; expected a whole number of 1 or more"),
    (["run", "xor", "--sedes", "3"], "there is no option --sedes; did you mean '--seeds'?"),
    (["run", "xor", "--seed", "3"], "there is no option --seed; did you mean '--seeds'?"),
    (["run", "xor", "--seeds"], "argument --seeds: expected one argument"),
    (["run", "xor", "--backprop", "hand"], "expected manual, autograd or both"),
    (["run", "xor", "--accelerator", "tpu"], "--accelerator is 'tpu'; expected cpu or cuda"),
    (["run", "xor", "--logs", "/dev/null/logs"], "--logs is '/dev/null/logs'; expected a folder"),
    (["list", "all"], "unrecognized arguments: all"),
]


@pytest.mark.parametrize(
    ("words", "sentence"),
    REFUSED,
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_refused_in_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.startswith("experiments: ") and err.count("\n") == 1 and not out


def test_cuda_is_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cli.main(["run", "xor", "--accelerator", "cuda", "--logs", str(tmp_path)]) == 2
    assert "--accelerator is 'cuda'; expected 'cpu'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "the disk is full"),
        (KeyboardInterrupt(), 130, "finished trials are kept"),
    ],
)
def test_what_stops_a_run_is_one_sentence(
    error: BaseException,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(arguments: object) -> int:
        raise error

    monkeypatch.setattr(commands, "main", stop)
    assert cli.main(["run", "xor", "--logs", str(tmp_path)]) == status
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1


def test_a_report_without_results_says_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "xor", "--seeds", "3", "--logs", str(tmp_path)]) == 2
    command = f"python -m experiments run xor --seeds 3 --logs {tmp_path}"
    assert command in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status"),
    [(["list"], 0), (["--help"], 0), (["run", "--help"], 0), (["run", "xro"], 2), (["fti"], 2)],
    ids=str,
)
def test_nothing_heavy_is_imported_to_list_to_help_or_to_refuse(
    words: list[str], status: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "experiments", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "experiments.cli" in imported
    heavy = {"torch", "pytorch_lightning", "numpy", "matplotlib", "joblib", "lightning_modules"}
    assert not imported & heavy


def test_every_study_is_listed_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == catalog.names() == ["optimizers", "xor"]
    for name, line in zip(catalog.names(), lines, strict=True):
        study = catalog.load(name)
        assert study.name == name
        assert line.endswith(study.question) and study.question.strip()
        assert study.predictions and all(p.source and p.refuted_if for p in study.predictions)
