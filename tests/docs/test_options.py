import re
from dataclasses import fields
from pathlib import Path

from diffmm_geo.training import DiffMMConfig

PAGE = Path(__file__).parents[2] / 'docs' / 'options.md'
CONFIG = DiffMMConfig()
NAMES = {field.name for field in fields(DiffMMConfig)}


def rows():
    r"""Our setting and its default, for each row of the table."""
    for line in PAGE.read_text().splitlines():
        if line.startswith('| `--'):
            cells = [cell.strip() for cell in line.strip('|').split('|')]
            yield cells[2], cells[3].strip('`')


def test_defaults():
    r"""The default in a row belongs to the first name in it."""
    checked = set()
    for ours, default in rows():
        name = re.match(r'`(\w+)`', ours)
        if name is None or name[1] not in NAMES:
            continue
        value = getattr(CONFIG, name[1])
        first = re.split('[,;]', default)[0].strip("'")
        assert first == str(value) or float(first) == value, name[1]
        checked.add(name[1])
    assert len(checked) > 20


def test_every_setting_is_named():
    text = PAGE.read_text()
    missing = {name for name in NAMES if f'`{name}`' not in text}
    assert not missing
