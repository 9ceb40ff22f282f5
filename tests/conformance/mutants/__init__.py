"""Wrong backwards and right ones, to try a checker on.

The wrong ones were written before anyone looked at what finds them, half of them from bug reports
alone. :data:`WRONG` and :data:`RIGHT` list them, each with its source: importing the files here
fills the two. Each is a whole function, as somebody would have written it, and shares nothing.
"""

from importlib import import_module
from pkgutil import iter_modules

from .catalogue import RIGHT, WRONG, Entry

__all__ = ["RIGHT", "WRONG", "Entry"]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
