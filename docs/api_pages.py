"""Writes the pages of the API reference from every :obj:`__all__`.

A name that is added to a package's :obj:`__all__` comes into the reference by
itself, as does a new package below :obj:`diffmm_geo`.
"""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sphinx.pycode import ModuleAnalyzer

import diffmm_geo

# What public classes take or hand on, and what a new backend is made of.
BENEATH = (
    'diffmm_geo.nn.diffusion.diffusion_training.train_diffusion_epoch',
    'diffmm_geo.ops.bipartite_adj.BipartiteAdj',
    'diffmm_geo.ops.item_lists.ItemLists',
    'diffmm_geo.ops.spmm.backend.Backend',
    'diffmm_geo.ops.spmm.csr_pattern.CSRPattern',
)

DATA = 'Data'
KINDS = ('Classes', 'Functions', DATA)


def public_modules() -> Iterator[ModuleType]:
    """The modules right below the package that say what is public."""
    for info in pkgutil.iter_modules(diffmm_geo.__path__, 'diffmm_geo.'):
        if info.name.rpartition('.')[2].startswith('_'):
            continue
        module = importlib.import_module(info.name)
        if getattr(module, '__all__', None):
            yield module


def kind(value: object) -> str:
    if inspect.isclass(value):
        return 'Classes'
    return 'Functions' if callable(value) else DATA


def heading(text: str, line: str) -> list[str]:
    return [text, line * len(text), '']


def summary(names: list[str]) -> list[str]:
    return [
        '.. autosummary::',
        '   :toctree: generated',
        '   :nosignatures:',
        '',
        *(f'   {name}' for name in names),
        '',
    ]


def defining_module(module: ModuleType, name: str) -> str:
    """Where a name of a package comes from."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom):
            if name in (alias.asname or alias.name for alias in node.names):
                source = '.' * node.level + (node.module or '')
                return importlib.util.resolve_name(source, module.__name__)
    return module.__name__


def data_entry(module: ModuleType, name: str) -> list[str]:
    """A constant with its `#:` comment, and its value or the keys of it."""
    value = getattr(module, name)
    text = list(value) if isinstance(value, dict) else value
    label = 'Keys' if isinstance(value, dict) else 'Value'
    comments = ModuleAnalyzer.for_module(defining_module(module, name))
    comment = comments.find_attr_docs().get(('', name), [])
    return [
        f'.. py:data:: {name}',
        '',
        *(f'   {line}' for line in comment),
        f'   {label}: ``{text}``',
        '',
    ]


def module_page(module: ModuleType) -> str:
    name = module.__name__
    lines = heading(name, '=')
    lines += [f'.. module:: {name}', '']
    lines += [inspect.getdoc(module) or '', '']
    lines += [f'.. currentmodule:: {name}', '']
    for group in KINDS:
        members = [
            member
            for member in module.__all__
            if kind(getattr(module, member)) == group
        ]
        if not members:
            continue
        lines += heading(group, '-')
        if group == DATA:
            for member in members:
                lines += data_entry(module, member)
        else:
            lines += summary(members)
    return '\n'.join(lines)


def beneath_page() -> str:
    lines = heading('Beneath', '=')
    lines += [
        'What public classes take or hand on. These may change between minor '
        'versions.',
        '',
    ]
    return '\n'.join(lines + summary(list(BENEATH)))


def index_page(pages: list[str]) -> str:
    lines = heading('API reference', '=')
    lines += ['.. toctree::', '   :maxdepth: 1', '']
    return '\n'.join(lines + [f'   {page}' for page in pages] + [''])


def write_api_pages(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    pages = {m.__name__: module_page(m) for m in public_modules()}
    pages['beneath'] = beneath_page()
    pages['index'] = index_page(list(pages))
    for name, text in pages.items():
        path = folder / f'{name}.rst'
        # An unchanged page keeps its time, and is not built again.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    # Pages of names that are gone would be in no table of contents.
    stubs = {f'{m.__name__}.{n}' for m in public_modules() for n in m.__all__}
    for path in folder.rglob('*.rst'):
        if path.stem not in {*pages, *stubs, *BENEATH}:
            path.unlink()
