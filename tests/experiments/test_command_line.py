import errno
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import catalog, cli, commands, executors
from experiments.study import Findings, Options, Plan, Table
from experiments.trial import Trial

REFUSED = [
    (["rnu"], "there is no command 'rnu'; did you mean 'run'?"),
    (["run", "optimisers"], "there is no study 'optimisers'; did you mean 'optimizers'?"),
    (["report", "zzz"], "there is no study 'zzz'; there is: "),
    (["run"], "the following arguments are required: STUDY"),
    (["fit"], "fit.model; --config FILE names a configuration that says it"),
    (["run", "xor", "--seeds", "0"], "--seeds is '0'; expected a whole number of 1 or more"),
    (["run", "xor", "--seeds", "1.5"], "--seeds is '1.5'; expected a whole number of 1 or more"),
    (["run", "xor", "--sedes", "3"], "there is no option --sedes; did you mean '--seeds'?"),
    (["run", "xor", "--seed", "3"], "there is no option --seed; did you mean '--seeds'?"),
    (["run", "xor", "--seeds"], "argument --seeds: expected one argument"),
    (["run", "xor", "--backprop", "hand"], "expected both, manual or autograd"),
    (["run", "xor", "--accelerator", "tpu"], "--accelerator is 'tpu'; expected cpu or cuda"),
    (["run", "xor", "--executor", "slurm"], "--executor is 'slurm'; expected joblib or ray"),
    (["run", "xor", "--jobs", "0"], "--jobs is '0'; expected a whole number of 1 or more"),
    (["run", "alll"], "there is no study 'alll'; did you mean 'all'?"),
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
        (OSError(errno.ENOSPC, "No space left on device", "x"), 2, "the disk is full (x)"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "not allowed (x)"),
        (ModuleNotFoundError("No module named 'joblib'", name="joblib"), 2, "manual-bp[experime"),
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


def test_an_executor_that_is_not_installed_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["run", "xor", "--executor", "ray", "--logs", str(tmp_path)]) == 2
    assert "pip install 'manual-bp[sweep]'" in capsys.readouterr().err


def test_a_study_whose_data_is_not_installed_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = replace(catalog.load("xor"), needs={"no_such_package": "mnist"})
    monkeypatch.setattr(catalog, "load", lambda name: study)
    assert cli.main(["run", "xor", "--logs", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "needs no_such_package, which is not installed; " in err
    assert "pip install 'manual-bp[mnist]'" in err and err.count("\n") == 1


Ends = Callable[[Trial], BaseException | None]


def ending(monkeypatch: pytest.MonkeyPatch, ends: Ends) -> list[str]:
    """Let trials end as they are told to instead of training them; returns who was started."""
    started: list[str] = []

    def run(
        trials: Sequence[Trial], place: Path, jobs: int | None
    ) -> Iterator[tuple[Trial, BaseException | None]]:
        for trial in trials:
            started.append(trial.name)
            yield trial, ends(trial)

    monkeypatch.setattr(executors, "load", lambda name: run)
    return started


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "weights.npz"), 2, "disk is full (wei"),
        (ModuleNotFoundError("Digits needs scikit-learn: python -m pip ..."), 2, "Digits needs"),
        (RuntimeError("a loss of NaN\nand more"), 1, "because: a loss of NaN -- to see it fail: "),
        (executors.Killed(), 1, "was killed 3 times (out of memory?)"),
    ],
    ids=["disk", "package", "error", "killed"],
)
def test_what_a_trial_ends_with_is_one_sentence(
    error: BaseException,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = ending(monkeypatch, lambda trial: error)
    assert cli.main(["run", "xor", "--seeds", "1", "--logs", str(tmp_path)]) == status
    err = capsys.readouterr().err
    assert sentence in err and err.startswith("experiments: ") and err.count("\n") == 1
    if isinstance(error, executors.Killed):
        assert set(Counter(started).values()) == {3}


def test_all_studies_run_though_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(catalog.load("xor"), plan=lambda options: 1 / 0)  # type: ignore[arg-type, return-value]
    refused = replace(catalog.load("xor"), name="c", needs={"no_such_package": "mnist"})

    def plan(options: Options) -> Plan:
        yield from ()
        return Findings((), [Table("numbers", ("one",), [("1",)])], (), "agree", True)

    studies = {
        "a": replace(broken, name="a"),
        "b": replace(broken, name="b", plan=plan),
        "c": refused,
    }
    monkeypatch.setattr(catalog, "names", lambda: list(studies))
    monkeypatch.setattr(catalog, "load", studies.__getitem__)
    monkeypatch.setattr(catalog, "question", lambda name: f"Is it {name} <&?")
    assert cli.main(["run", "all", "--logs", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "experiments: a: ZeroDivisionError: division by zero",
        "experiments: c: the study c needs no_such_package, which is not installed; "
        "python -m pip install 'manual-bp[mnist]'",
    ]
    end = out[out.index("3 studies") :]
    assert "a: ZeroDivisionError" in end and "b " in end and f"{tmp_path}/index.html" in end
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="b/report.html"' in page and "Is it b &lt;&amp;?" in page
    assert "division by zero" in page and "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "b" / "report.html").exists()

    assert cli.main(["report", "--logs", str(tmp_path)]) == 1  # the broken one is broken still
    studies.pop("a")
    assert cli.main(["report", "--logs", str(tmp_path)]) == 0


def test_ctrl_c_ends_all_studies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(trial: Trial) -> None:
        raise KeyboardInterrupt

    started = ending(monkeypatch, interrupt)
    assert cli.main(["run", "all", "--fast", "--logs", str(tmp_path)]) == 130
    assert len(started) == 1
    assert "to go on: python -m experiments run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("r", {"run", "report"}),
        ("run x", {"xor"}),
        ("run a", {"all", "activations"} & {"all", *catalog.names()}),
        ("report o", {"optimizers"}),
        ("run xor --exec", {"--executor"}),
        ("run xor --executor ", {"joblib", "ray"}),
        ("run xor --backprop m", {"manual"}),
    ],
)
def test_the_shell_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete", reason="argcomplete is not installed")
    whole = f"python -m experiments {line}"
    ended = subprocess.run(
        [sys.executable, "-m", "experiments"],
        env={
            **os.environ,
            "_ARGCOMPLETE": "3",  # the program is three words
            "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"),
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "COMP_LINE": whole,
            "COMP_POINT": str(len(whole)),
            "COMP_TYPE": "9",
        },
        check=False,
        timeout=60,
        capture_output=True,
    )
    found = (tmp_path / "words").read_text().split("\n")
    assert {word.strip() for word in found} == expected, ended.stderr


def test_a_report_without_results_says_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "xor", "--seeds", "3", "--logs", str(tmp_path)]) == 2
    command = f"python -m experiments run xor --seeds 3 --logs {tmp_path}"
    assert command in capsys.readouterr().err


@pytest.mark.parametrize("study", [["xor"], []], ids=["xor", "index"])
def test_a_report_makes_no_folder(
    study: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "none"
    assert cli.main(["report", *study, "--logs", str(logs)]) == 2
    assert f"--logs is '{logs}'; expected the folder of a run" in capsys.readouterr().err
    assert not logs.exists()


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
    assert [line.split()[0] for line in lines] == catalog.names()
    for name, line in zip(catalog.names(), lines, strict=True):
        study = catalog.load(name)
        assert study.name == name
        assert line.endswith(study.question) and study.question.strip()
        assert study.predictions and all(p.source and p.refuted_if for p in study.predictions)
