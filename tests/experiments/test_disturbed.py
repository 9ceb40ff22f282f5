"""Side by side or one after another, killed or not, here or on Ray: the same numbers each time."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATH = os.pathsep.join([str(HERE), str(HERE.parents[1])])

pytestmark = pytest.mark.timeout(900)  # several processes that import Lightning, one after another

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run the small study; what is left of it goes when the test ends."""
    begun = []

    def begin(logs: Path, executor: str = "joblib", jobs: int = 2, disturb: str = "") -> object:
        logs.mkdir(exist_ok=True)
        places = {"PYTHONPATH": PATH, "DISTURB_AT": str(logs), "DISTURB": disturb}
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", HERE / "disturbed.py", logs, executor, str(jobs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **places, "OMP_NUM_THREADS": "1"},
        )
        begun.append(process)
        return process

    yield begin  # type: ignore[misc]
    for process in begun:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def told(process: "subprocess.Popen[str]", ran: int) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert f"ran {ran}" in err
    return out


def steps(logs: Path, seed: int) -> Counter[int]:
    """How often each step was taken."""
    return Counter(map(int, (logs / f"steps{seed}").read_text().split()))


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(5000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come in four minutes")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the trials end with, one after another."""
    logs = tmp_path_factory.mktemp("undisturbed")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "disturbed.py", logs, "joblib", "1"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": PATH,
            "DISTURB_AT": str(logs),
            "OMP_NUM_THREADS": "1",
        },
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Manual and autograd agree: over 3 trainings in step" in ended.stdout
    assert "every gradient of all 3 manual trials by hand" in ended.stdout
    assert all(set(steps(logs, seed).values()) == {1} for seed in (0, 1, 2))
    return ended.stdout


def test_a_killed_trial_goes_on_from_its_checkpoint(
    start: Start, undisturbed: str, tmp_path: Path
) -> None:
    assert told(start(tmp_path, disturb="kill"), 3) == undisturbed
    taken = steps(tmp_path, 1)
    assert taken[8] == 2, "the step at which it was killed is taken again"
    # a validation follows step 7, so what is saved last is saved after that
    assert all(taken[step] == 1 for step in (*range(8), *range(9, 18)))
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()], "nothing half-written is left"
    assert_logged_once(tmp_path / "disturbed" / "tensorboard" / "a" / "seed1")


def assert_logged_once(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), {"scalars": 0})
    events.Reload()
    tag = "global_gradient_norm/before_clipping"
    assert [event.step for event in events.Scalars(tag)] == list(range(18))


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_run_that_is_ended_goes_on(
    start: Start, undisturbed: str, tmp_path: Path, number: signal.Signals
) -> None:
    ended = start(tmp_path, disturb="hang")
    wait_for(tmp_path / "stopped", ended)
    if number == signal.SIGINT:
        os.killpg(ended.pid, number)  # as a terminal does
        _, err = ended.communicate(timeout=60)
        assert ended.returncode == 130 and "to go on: python -m experiments run" in err
    else:
        ended.kill()  # the parent alone: its workers must follow
        ended.communicate()
        for _ in range(200):
            try:
                os.killpg(ended.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("workers outlive their parent")
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
    again = start(tmp_path)
    assert told(again, 3 - len(kept)) == undisturbed
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}.items()
    assert steps(tmp_path, 1)[8] == 2 and steps(tmp_path, 1)[7] == 1


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra sweep)")
@pytest.mark.parametrize("disturb", ["", "kill"])
def test_ray_gives_the_same(start: Start, undisturbed: str, tmp_path: Path, disturb: str) -> None:
    out = told(start(tmp_path, "ray", 2, disturb), 3)
    own = [line for line in out.splitlines() if "(raylet)" not in line]  # it tells of the death
    assert own == undisturbed.splitlines()
    assert (tmp_path / "stopped").exists() is bool(disturb)
