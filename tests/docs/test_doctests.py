import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import diffmm_geo

DOCS = Path(__file__).parents[2] / 'docs'
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob('*.md')
    if '_build' not in path.parts
)
MODULES = [
    info.name
    for info in pkgutil.walk_packages(diffmm_geo.__path__, 'diffmm_geo.')
]
FLAGS = doctest.ELLIPSIS
# Otherwise, a fence would count as output.
FENCE = re.compile(r'^(```|:::).*$', re.MULTILINE)


def run(test):
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    result = runner.run(test, out=report.append)
    assert result.failed == 0, ''.join(report)


@pytest.mark.parametrize('name', PAGES)
def test_page(name, tmp_path, monkeypatch):
    # Pages write to a temporary folder.
    monkeypatch.chdir(tmp_path)
    text = FENCE.sub('', (DOCS / name).read_text())
    run(doctest.DocTestParser().get_doctest(text, {}, name, name, 0))


@pytest.mark.parametrize('name', MODULES)
def test_module(name):
    if name.rpartition('.')[2] == 'triton_kernels':
        pytest.importorskip('triton')
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module):
        if test.examples:
            run(test)


def test_components_have_examples():
    pages = [name for name in PAGES if name.startswith('components/')]
    assert pages
    for name in pages:
        assert '>>> ' in (DOCS / name).read_text(), name
