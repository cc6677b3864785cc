import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


def test_generation_holds_no_users_times_items_matrix():
    # The matrix alone would be 4 GB; importing torch is a few 100 MB.
    out = subprocess.run(
        [
            sys.executable,
            BENCHMARKS / 'generation_memory.py',
            *('--users', '10000', '--items', '100000', '--edges', '200000'),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.startswith('10000 edges')
    match = re.search(r'peak ([\d.]+) GB', out)
    assert match and float(match[1]) < 1.5, out
