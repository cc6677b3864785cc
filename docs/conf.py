import importlib
import sys
from abc import ABC
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from api_pages import public_names, write_api_pages

import diffmm_geo

API = Path(__file__).parent / 'api'

project = 'diffmm_geo'
author = 'diffmm_geo contributors'
copyright = author
version = release = diffmm_geo.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    # Bundles MathJax, so that math renders without a network.
    'sphinx-mathjax-offline',
]
exclude_patterns = ['_build']
templates_path = ['_templates']

html_theme = 'furo'
html_title = f'diffmm_geo {release}'
html_show_copyright = False

myst_enable_extensions = ['amsmath', 'colon_fence', 'dollarmath']
myst_heading_anchors = 3

# As in PyG, docstrings state the types of arguments.
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
# An overriding method is documented in its base class.
autodoc_inherit_docstrings = False
autosummary_generate = True
autosummary_ignore_module_all = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ['Shapes']
napoleon_use_param = False
napoleon_use_rtype = False

# Linking names of other projects would need a network.
nitpicky = True
nitpick_ignore_regex = [
    ('py:.*', r'(lightning|numpy|scipy|torch(_geometric|_sparse)?)\..*'),
    # In PyG's docstrings, `:obj:` marks any code.
    ('py:obj', r'(?s)(?!diffmm_geo).*'),
    ('py:exc', r'\w+Error'),
    ('py:class', 'object'),
]

# The name under which each class is documented.
PUBLIC_NAMES = {}
for module, members in public_names().items():
    for name in members:
        value = getattr(importlib.import_module(module), name)
        if isinstance(value, type):
            PUBLIC_NAMES.setdefault(value, f'{module}.{name}')

# Members of private bases are documented with the class.
DOCUMENTED_OR_FOREIGN = {
    base.__name__
    for value in PUBLIC_NAMES
    for base in value.__mro__
    if base in PUBLIC_NAMES or not base.__module__.startswith('diffmm_geo.')
}
autodoc_default_options = {
    'members': True,
    'inherited-members': ','.join(sorted(DOCUMENTED_OR_FOREIGN)),
    'show-inheritance': True,
}


def public_bases(cls):
    for base in cls.__bases__:
        if base in PUBLIC_NAMES:
            yield f':class:`~{PUBLIC_NAMES[base]}`'
        elif base.__module__.startswith('diffmm_geo.'):
            yield from public_bases(base)
        elif base is not ABC:
            yield base


def name_bases(app, name, obj, options, bases):
    bases[:] = public_bases(obj)


def setup(app):
    # Before Sphinx searches for sources.
    app.connect('config-inited', lambda *_: write_api_pages(API))
    app.connect('autodoc-process-bases', name_bases)
