"""Sphinx's settings for build_site.py. The API reference is read from the source; nothing is imported."""

import os
import re
from pathlib import Path

ROOT = Path(os.environ["D2_CXR_ROOT"])
project = "d2_cxr"
copyright = "the d2_cxr authors"
extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
html_theme = "furo"
html_title = "d2_cxr"
html_static_path = [str(ROOT / "docs" / "site")]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_show_sphinx = False

myst_heading_anchors = 4  # links to sections are checked

napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autoapi_dirs = [str(ROOT / "d2_cxr")]
autoapi_root = "api"
autoapi_type = "python"
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_add_toctree_entry = False
autoapi_member_order = "bysource"
autoapi_python_class_content = "both"
autoapi_keep_files = True
add_module_names = False
suppress_warnings = ["autoapi.python_import_resolution"]  # two names bound in one statement


def _markdown_to_rst(app, what, name, item, options, lines):
    """Change docstrings, which are Markdown, to what Sphinx expects: double backticks for code, no other markup."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]+`)", line)
        lines[number] = "".join(
            f"`{part}`" if part.startswith("`") else re.sub(r"([|*]|(?<=\w)_(?=\W|$))", r"\\\1", part) for part in parts
        )


def setup(app):
    """Register the change; it comes before napoleon's."""
    app.connect("autodoc-process-docstring", _markdown_to_rst, priority=100)
