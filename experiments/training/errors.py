"""One sentence out of jsonargparse's report of an error.

The report names every type that was tried at every level of nesting. What a user needs is the
path of the key, the value that was given, and what the innermost attempt expected.
"""

import difflib
import importlib
import re

_KEY = re.compile(r'(?:Parser key|Key) "([^"]+)"')
_VALUE = re.compile(r"(?:Given|Got) value: (.+?)(?:\. Got value: Namespace.*)?$", re.M)
_EXPECTED = re.compile(r"Expected (?:an? )?(.+?)(?:\. Got value: .*)?$")
_NOISE = re.compile(
    r"^(?:- )?(?:Does not validate|Subtypes:|Errors:|Given value|Problem with given class_path"
    r"|Type .+? expects a function or a callable class: *$|$)"
)
_ABSENT = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")


def cause(message: str) -> str:
    """The innermost cause in an error message of jsonargparse.

    Args:
        message: The whole message, of one line or of many.

    Returns:
        One line: the key, the value and what was expected, as far as the message tells.
    """
    keys = _KEY.findall(message)
    lines = _innermost(message.splitlines())
    text = "\n".join(lines)
    said = [line.strip() for line in lines if not _NOISE.match(line.strip())]
    plain = [line for line in said if not line.removeprefix("- ").startswith("Expected")]
    expected = [
        _type(found[1])
        for line in said
        if (found := _EXPECTED.match(line.removeprefix("- "))) and "NoneType" not in line
    ]
    expected = [name for name in expected if not name.startswith(("path", "dot import path"))]
    key = ".".join(key for key in keys if key != "config")
    value = _VALUE.search(text)
    if expected and value and not plain:
        return f"{key} is {value[1].strip()!r}; expected {' or '.join(dict.fromkeys(expected))}"
    reason = re.sub(r"\. Got value: Namespace.*$", "", (plain or lines or [""])[0]).strip("- ")
    reason = re.sub(r"^Type .+? expects a function or a callable class: ", "", reason)
    return (f"{key}: " if key else "") + reason + _hint(reason)


def _innermost(lines: list[str]) -> list[str]:
    """What follows the last key that is named, as far as it is nested under it."""
    last = max((i for i, line in enumerate(lines) if _KEY.search(line)), default=None)
    if last is None:
        return lines
    depth = len(lines[last]) - len(lines[last].lstrip())
    rest = [_KEY.split(lines[last])[-1].lstrip(": ")]
    for line in lines[last + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) < max(depth, 1):
            break
        rest.append(line)
    return rest


def _type(text: str) -> str:
    """``<class 'int'>`` as ``int``, ``typing.Literal['a', 'b']`` as ``'a' or 'b'``."""
    choices = re.match(r"typing\.Literal\[(.+)\]", text)
    if choices:
        return choices[1].replace(", ", " or ")
    return re.sub(r"<class '([\w.]+)'>", r"\1", text)


def _hint(reason: str) -> str:
    """What may have been meant by a name that a module does not have, or what is left out."""
    if reason.endswith("required: fit.model"):
        return "; --config FILE names a configuration that says it"
    absent = _ABSENT.search(reason)
    if not absent:
        return ""
    close = difflib.get_close_matches(absent[2], dir(importlib.import_module(absent[1])), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
