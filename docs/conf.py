"""Sphinx configuration: `make docs` builds the pages and runs their examples; a warning is an error."""

import ndrnn

project = "ndrnn"
author = "The ndrnn developers"
copyright = "the ndrnn developers, Apache-2.0"
release = ndrnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# pages build without a network; links to other projects are plain text then
intersphinx_mapping = {}

# a warning in an example is an error too
doctest_global_setup = (
    "import warnings; warnings.simplefilter('error'); import torch; import ndrnn; _ = torch.manual_seed(0)"
)
doctest_global_cleanup = "warnings.resetwarnings()"

html_theme = "furo"
html_title = "ndrnn"
