import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import diffmm_geo

pytest.importorskip('sphinx')
pytest.importorskip('furo')
pytest.importorskip('myst_parser')

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    r"""The site, built as in `make docs` in a separate process, from any state
    of the checkout's docs/api.
    """
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-n']
    command += ['-q', '-d', folder / 'doctrees', ROOT / 'docs', folder / 'html']
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return folder / 'html'


@pytest.fixture(scope='module')
def documented(site):
    r"""The names of Python objects that the site describes."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from sphinx.util.inventory import InventoryFile
    inventory = InventoryFile.loads((site / 'objects.inv').read_bytes(), uri='')
    return {
        name
        for kind in inventory.data
        if kind.startswith('py:')
        for name in inventory.data[kind]
    }


def public_packages():
    r"""All modules with an `__all__`, independently of `api_pages.py`."""
    yield diffmm_geo
    for info in pkgutil.walk_packages(diffmm_geo.__path__, 'diffmm_geo.'):
        if '._' not in info.name and (info.ispkg or info.name.count('.') == 1):
            module = importlib.import_module(info.name)
            if hasattr(module, '__all__'):
                yield module


def test_public_names_and_methods_are_documented(documented):
    r"""Documented under their name in modules directly below the package, or
    under any name in deeper ones.
    """
    packages = list(public_packages())  # All are imported.
    described = [find(name) for name in documented]
    for package in packages:
        for name in package.__all__:
            full, value = f'{package.__name__}.{name}', getattr(package, name)
            if package.__name__.count('.') > 1:
                is_there = any(value is other for other in described)
                assert full in documented or is_there, full
                continue
            assert name.startswith('__') or full in documented, full
            methods = vars(value) if inspect.isclass(value) else {}
            for method, function in methods.items():
                public = inspect.isfunction(function) and function.__doc__
                if public and not method.startswith('_'):
                    assert f'{full}.{method}' in documented


def find(name):
    r"""The object of this name, if it exists."""
    for module in (m for m in sys.modules.copy() if name.startswith(f'{m}.')):
        value = sys.modules[module]
        for part in name.removeprefix(f'{module}.').split('.'):
            value = getattr(value, part, None)
        if value is not None:
            return value
    return None


def test_text_is_rendered(site):
    r"""No page shows markup of the other language."""
    for path in site.rglob('*.html'):
        if '_modules' in path.parts:  # Sources, as they are.
            continue
        text = path.read_text()
        text = re.sub(r'<(pre|script|style)\b.*?</\1>', '', text, flags=re.S)
        text = re.sub(r'<(code|span|div)[^>]*(literal|math)[^>]*>.*?</\1>', '',
                      text, flags=re.S)  # fmt: skip
        for markup in (':obj:`', ':class:`', ':math:`', '.. math::', '```'):
            assert markup not in text, (path.name, markup)
        assert not re.search(r'\$[^$<>]*\\math', text), path.name


def test_links_inside_the_site(site):
    r"""Scripts, among them that of math, need no network."""
    outside = 'http:', 'https:', 'mailto:', 'data:'
    for path in site.rglob('*.html'):
        if '_modules' in path.parts:
            continue
        text = path.read_text()
        links = re.findall(r'href="([^"#]+)', text)
        links = [link for link in links if not link.startswith(outside)]
        links += re.findall(r'<script[^>]*src="([^"]+)', text)
        for link in links:
            target = (path.parent / link.partition('?')[0]).resolve()
            assert target.exists(), (path.name, link)
    assert 'mathjax/tex-chtml.js' in (site / 'training.html').read_text()
