"""Sphinx configuration: `sphinx-build -W --keep-going -n -b html docs docs/_build/html`."""

import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

from innaprop.forms import all_forms

# Before autodoc imports the adapters.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "innaprop"
copyright = "the innaprop contributors"
release = version = metadata.version("innaprop")

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]

# One file, which draws without fonts: pages show formulas without a network.
_MATHJAX = "tex-svg.js"
_mathjax_files = metadata.files("sphinx-mathjax-offline") or []
(_mathjax,) = (file for file in _mathjax_files if Path(file).name == _MATHJAX)
mathjax_path = _MATHJAX

copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# The docstrings say what is taken; most annotations of arrays are Any.
autodoc_typehints = "none"

# Third parties and the standard library: there is no inventory to resolve them by.
nitpick_ignore_regex = [
    ("py:class", r"(collections|contextlib|keras|tensorflow|torch|typing)\..*|Mapping")
]

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
_INK = "#767676"  # Readable on white and on the dark theme alike.
plot_rcparams = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.prop_cycle": "cycler('color', ['#c0563f', '#2f86c5', '#767676', '#3f9b62'])",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.figsize": (8.0, 3.4),
    "font.size": 10.0,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "lines.linewidth": 1.8,
    "savefig.transparent": True,
    "svg.hashsalt": "innaprop",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
plot_apply_rcparams = True

# Unlike the theme's own style, it colours what a diff removes and adds.
pygments_style = "default"
html_theme = "furo"
html_title = f"innaprop {release}"
html_static_path = ["_static", str(_mathjax.locate())]
html_css_files = ["width.css"]
html_copy_source = False
html_show_sourcelink = False


def _from_google_style(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    # As an extension, napoleon takes what stands before the colon of an attribute's first line
    # for its type, and reads no sections after it.
    kind = "method" if what in ("attribute", "data", "property") else what
    plain = [_only_literals_are_markup(line) for line in lines]
    lines[:] = GoogleDocstring(plain, Config(), app, kind, name, obj, options).lines()


def _only_literals_are_markup(line: str) -> str:
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = line.split("``")
    parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
    return "``".join(parts)


def _fill_in_forms(app: Sphinx, page: str, source: list[str]) -> None:
    if page == "forms":
        source[0] = source[0].replace("<!-- forms -->", _table_of_forms())


def _table_of_forms() -> str:
    head = ("form", "for", "compiler", "moves", "holds", "in place", "reads numbers", "can skip")
    rows = [
        (
            f"`{name}`",
            form.framework,
            form.compiler,
            form.moves,
            form.temporaries,
            *("yes" if is_so else "" for is_so in (form.in_place, form.reads_scalars, form.skips)),
        )
        for name, form in all_forms().items()
    ]
    table = [head, ["---"] * len(head), *rows]
    valid = [f"- `{name}`: {form.valid}." for name, form in all_forms().items()]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([*lines, "", "Where each is valid:", "", *valid])


def setup(app: Sphinx) -> None:
    """Read docstrings in Google style, and fill in what the forms say of themselves."""
    app.connect("autodoc-process-docstring", _from_google_style)
    app.connect("source-read", _fill_in_forms)
