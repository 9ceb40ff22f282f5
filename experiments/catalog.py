"""Which studies there are, known without importing one.

A study is a file in ``studies/``; the first line of its docstring is its question. Reading the
source instead of importing it keeps ``list`` and the refusal of unknown names quick.
"""

import ast
import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.study import Study

FOLDER = Path(__file__).parent / "studies"


def names() -> list[str]:
    """The names of all studies, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def question(name: str) -> str:
    """The question that a study asks: the first line of its docstring."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def load(name: str) -> "Study":
    """Import a study; its module imports neither torch nor Lightning."""
    study: Study = importlib.import_module(f"experiments.studies.{name}").STUDY
    return study


def unknown_option(message: str, known: list[str]) -> str:
    """Argparse's message with a suggestion, where it is about an option that does not exist."""
    prefix = "unrecognized arguments: "
    word = message.removeprefix(prefix).partition(" ")[0].partition("=")[0]
    if not message.startswith(f"{prefix}-"):
        return message
    return f"there is no option {word}; {suggestion(word, known)}"


def suggestion(word: str, known: list[str]) -> str:
    """A closing phrase for a refusal: what may have been meant, or else what there is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(known)}"
