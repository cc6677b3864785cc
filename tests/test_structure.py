r"""The floors of the library: a file imports from its own floor or from those
below, and no two files import each other. `CONTRIBUTING.md` describes them.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. Rooms of one floor may import each other.
FLOORS = (
    ('utils',),
    ('sparse',),
    ('ops',),
    ('nn', 'evaluation', 'recommender'),
    ('datasets', 'transforms'),
    ('tasks',),
    ('training',),
)
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted((ROOT / 'diffmm_geo').rglob('*.py'))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {name_of(path): path for path in FILES}


def imports_of(name):
    r"""The library's modules that a module imports, anywhere in it."""
    path = MODULES[name]
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parent = package.split('.')[: -node.level + 1 or None]
                base = '.'.join([*parent, *filter(None, [base])])
            # An imported name may be a module.
            targets = [f'{base}.{alias.name}' for alias in node.names]
            targets = [t if t in MODULES else base for t in targets]
        else:
            continue
        yield from (t for t in targets if t in MODULES and t != name)


def room(name):
    return name.split('.')[1] if '.' in name else None


@pytest.mark.parametrize('name', [m for m in MODULES if room(m)])
def test_imports_go_down(name):
    for target in imports_of(name):
        if room(target) is None:  # The package itself, for its version.
            continue
        assert FLOOR[room(target)] <= FLOOR[room(name)], (
            f'{name} imports {target}, which is on a floor above'
        )


def test_datasets_stay_apart():
    for name in MODULES:
        if room(name) == 'datasets':
            rooms = {room(target) for target in imports_of(name)}
            assert rooms <= {'datasets', 'utils'}, name


def test_no_circle():
    # Packages re-export their files, and are only imported from outside.
    files = {m for m in MODULES if MODULES[m].name != '__init__.py'}
    graph = {m: {t for t in imports_of(m) if t in files} for m in files}
    done, path = set(), []

    def visit(name):
        assert name not in path, ' -> '.join([*path, name])
        if name in done:
            return
        path.append(name)
        for target in sorted(graph[name]):
            visit(target)
        done.add(path.pop())

    for name in sorted(graph):
        visit(name)


def test_rooms_are_known():
    assert {room(m) for m in MODULES} - {None} == FLOOR.keys()
