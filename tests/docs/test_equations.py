import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r'^\| \((\d+)\) \| [^|]+ \| `([^`]+)` \| `([\w.]+)`(?: \(`(\w+)`\))? \|$',
    re.MULTILINE,
)
PAGE = (ROOT / 'docs' / 'equations.md').read_text()
ROWS = ROW.findall(PAGE)
OTHERS = re.findall(
    r'^\| [^(|][^|]+ \| `([^`]+)` \| `([\w.]+)` \|$', PAGE, re.M
)


def find(body, name):
    for node in body:
        if getattr(node, 'name', None) == name:
            return node
    raise AssertionError(f'no {name}')


def test_every_equation_has_a_row():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 27))


@pytest.mark.parametrize(
    'number, file, name, attribute',
    [*ROWS, *(('', *row, '') for row in OTHERS)],
)
def test_the_name_is_in_the_file(number, file, name, attribute):
    source = (ROOT / file).read_text()
    body = ast.parse(source).body
    for part in name.split('.'):
        node = find(body, part)
        body = node.body
    if attribute:
        assert f"'{attribute}'" in ast.get_source_segment(source, node)
