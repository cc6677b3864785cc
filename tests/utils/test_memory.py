import subprocess
import sys

import pytest

from diffmm_geo.utils import memory
from diffmm_geo.utils.memory import kept_memory, release_memory

# In a new process: memory that earlier tests freed would be reused.
SCRIPT = """
import torch
from diffmm_geo.utils.memory import kept_memory, release_memory

def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096

size = 256 * 2**20
release_memory()
before = resident()
with kept_memory():
    x = torch.zeros(size, dtype=torch.uint8) + 1
    del x
    assert resident() - before > size / 2
release_memory()
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_freed_memory_stays():
    if memory._libc() is None:
        pytest.skip('not the GNU C library')
    subprocess.run([sys.executable, '-c', SCRIPT], check=True)


def test_without_the_gnu_library(monkeypatch):
    monkeypatch.setattr(memory, '_libc', lambda: None)
    release_memory()
    with kept_memory():
        pass
