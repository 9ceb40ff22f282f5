import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

# A shell makes what it starts in the background deaf to Ctrl-C, and all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def findings(self) -> str:
        """What is printed, save how many trials were run and in what time."""
        lines = self.out.splitlines()
        return "\n".join(line for line in lines if not re.match(r"\d+ trials? in ", line))


class Command:
    """``python -m experiments`` in a process group of its own, as under a terminal."""

    def __init__(self, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def signal(self, number: signal.Signals) -> None:
        """What the terminal does on Ctrl-C: the signal goes to the whole group."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = 240) -> Ended:
        out, err = self.process.communicate(timeout=seconds)
        return Ended(self.process.returncode, out, err)

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Start a command; what is left of it goes when the test ends."""
    begun: list[Command] = []

    def begin(*words: object) -> Command:
        begun.append(Command(*words))
        return begun[-1]

    yield begin
    for command in begun:
        command.kill()


@dataclass(frozen=True)
class Fast:
    """A study that was run in its short form."""

    ended: Ended
    logs: Path
    place: Path


@pytest.fixture(scope="session")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fast]:
    """Each study in its short form, run once.

    Where several processes share the tests, all studies are run by one command: so the processes
    that train are started, and import Lightning, once.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return lambda study: _alone(study, base / f"fast-{study}")
    return lambda study: _together(study, base.parent / "fast")


def _alone(study: str, logs: Path) -> Fast:
    return Fast(_once(study, logs), logs, logs / f"{study}-fast")


def _together(study: str, logs: Path) -> Fast:
    ended = _once("all", logs)
    said, *_ = re.split(r"^\d+ studies *$", ended.out, flags=re.M)  # a summary follows
    _, *parts = re.split(r"^== (\w+)$", said, flags=re.M)
    own = dict(zip(parts[::2], parts[1::2], strict=True))[study].strip("\n") + "\n"
    return Fast(replace(ended, out=own), logs, logs / f"{study}-fast")


def _once(study: str, logs: Path) -> Ended:
    """Run the short form; who comes later waits."""
    ended = logs / "ended.json"
    try:
        logs.mkdir()
    except FileExistsError:
        for _ in range(8000):
            if ended.exists():
                break
            time.sleep(0.1)
    else:
        command = Command("run", study, "--fast", "--logs", logs)
        try:
            found = asdict(command.end(800))
        finally:
            command.kill()
        (logs / "part").write_text(json.dumps(found), encoding="utf-8")
        (logs / "part").replace(ended)
    return Ended(**json.loads(ended.read_text(encoding="utf-8")))
