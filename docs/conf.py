"""The site: make docs."""

import os
import re
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])
sys.path.insert(0, ROOT)  # for the docstrings
os.environ["PYTHONPATH"] = ROOT  # for the tutorial, which runs in a process of its own

project = "Losses that depend on the input gradient"
html_title = project
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "results"]
html_theme = "furo"
html_theme_options = {"footer_icons": []}
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
napoleon_google_docstring = True


def only_inside(app, docname: str, source: list[str]) -> None:
    """Of a link that leads out of the site (to code, to kept reports) leave the words: the site has no such page."""

    def kept(found: re.Match[str]) -> str:
        words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path = os.path.normpath(os.path.join(os.path.dirname(docname), target))
        return words if path.startswith(("..", "results")) else found[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", kept, source[0])


def literal_stars(app, what: str, name: str, of, options, lines: list[str]) -> None:
    """Shapes such as (N, *input) hold a star, which marks no emphasis."""
    lines[:] = [re.sub(r"(?<![*\\])\*(?=[a-z])", r"\\*", line) for line in lines]


def setup(app) -> None:
    app.connect("source-read", only_inside)
    app.connect("autodoc-process-docstring", literal_stars)
