"""How the documentation is built: ``make docs``."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import manual_bp
from docs import pages

project = "manual_bp"
author = "The manual_bp authors"
copyright = author
version = release = manual_bp.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
napoleon_numpy_docstring = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
# A literal block in a docstring is a formula, and no language.
highlight_language = "none"

html_theme = "furo"
html_title = "manual_bp"
html_static_path = ["_static"]
html_css_files = ["formula.css"]
html_math_renderer = "mathml"
html_copy_source = False


def _math(self: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw by themselves: no script, no network."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Register the renderer, and generate what is not typed."""
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
    app.connect("builder-inited", lambda app: pages.write(app.srcdir))
