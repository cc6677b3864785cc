"""Writes the pages of the API reference from every :obj:`__all__`.

Each module directly below :obj:`diffmm_geo` has a page. The page *Beneath*
lists the names that only deeper packages export.
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

# The base class of a new backend, and a class that needs an extra.
NOT_IN_ALL = (
    'diffmm_geo.ops.spmm.backend.Backend',
    'diffmm_geo.training.lightning_module.DiffMMLightning',
)

DATA = 'Data'
KINDS = ('Classes', 'Functions', DATA)


def modules() -> Iterator[ModuleType]:
    """The modules with an :obj:`__all__`, outermost first."""
    infos = pkgutil.walk_packages(diffmm_geo.__path__, 'diffmm_geo.')
    names = (
        info.name
        for info in infos
        if '._' not in info.name and (info.ispkg or info.name.count('.') == 1)
    )
    for name in sorted(names, key=lambda name: (name.count('.'), name)):
        module = importlib.import_module(name)
        if getattr(module, '__all__', None):
            yield module


def public_names() -> dict[str, list[str]]:
    """The names to document in each module: all names of modules directly below
    the package, and the remaining names of deeper ones.
    """
    out: dict[str, list[str]] = {}
    seen: list[object] = []
    for module in modules():
        name = module.__name__
        members = module.__all__
        if name.count('.') > 1:
            members = [
                member
                for member in members
                if not any(getattr(module, member) is value for value in seen)
            ]
        seen += [getattr(module, member) for member in members]
        if members:
            out[name] = list(members)
    for name in NOT_IN_ALL:
        module_name, _, member = name.rpartition('.')
        out.setdefault(module_name, []).append(member)
    return out


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
    """The module from which a package imports a name."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom):
            if name in (alias.asname or alias.name for alias in node.names):
                source = '.' * node.level + (node.module or '')
                return importlib.util.resolve_name(source, module.__name__)
    return module.__name__


def data_entry(module: ModuleType, name: str) -> list[str]:
    """A constant with its `#:` comment, and its value or keys."""
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


def entries(module: ModuleType, members: list[str], line: str) -> list[str]:
    """The members of a module, grouped by kind."""
    lines = [f'.. currentmodule:: {module.__name__}', '']
    for group in KINDS:
        chosen = [m for m in members if kind(getattr(module, m)) == group]
        if not chosen:
            continue
        lines += heading(group, line)
        if group != DATA:
            lines += summary(chosen)
            continue
        for member in chosen:
            lines += data_entry(module, member)
    return lines


def module_page(module: ModuleType, members: list[str]) -> str:
    lines = heading(module.__name__, '=')
    lines += [f'.. module:: {module.__name__}', '']
    lines += [inspect.getdoc(module) or '', '']
    return '\n'.join(lines + entries(module, members, '-'))


def beneath_page(names: dict[str, list[str]]) -> str:
    lines = heading('Beneath', '=')
    lines += [
        'Arguments, return values and parts of public classes. These may '
        'change between minor versions.',
        '',
    ]
    for name, members in names.items():
        module = importlib.import_module(name)
        lines += heading(name, '-')
        lines += entries(module, members, '~')
    return '\n'.join(lines)


def index_page(pages: list[str]) -> str:
    lines = heading('API reference', '=')
    lines += ['.. toctree::', '   :maxdepth: 1', '']
    return '\n'.join(lines + [f'   {page}' for page in pages] + [''])


def write_api_pages(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    names = public_names()
    outer = {name: m for name, m in names.items() if name.count('.') == 1}
    pages = {
        name: module_page(importlib.import_module(name), members)
        for name, members in outer.items()
    }
    pages['beneath'] = beneath_page(
        {name: m for name, m in names.items() if name not in outer}
    )
    pages['index'] = index_page(list(pages))
    for name, text in pages.items():
        path = folder / f'{name}.rst'
        # An unchanged page keeps its timestamp, and is not rebuilt.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    # Pages of removed names would be in no table of contents.
    stubs = {f'{name}.{m}' for name, members in names.items() for m in members}
    for path in folder.rglob('*.rst'):
        if path.stem not in {*pages, *stubs}:
            path.unlink()
