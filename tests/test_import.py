import subprocess
import sys

SCRIPT = """
import sys
import diffmm_geo

assert 'torch' not in sys.modules
for name in (
    'datasets', 'evaluation', 'nn', 'ops', 'recommender', 'training',
    'transforms',
):
    assert name in dir(diffmm_geo)
    module = getattr(diffmm_geo, name)
    assert module is sys.modules[f'diffmm_geo.{name}'] and module.__all__
assert not hasattr(diffmm_geo, 'other')
"""


def test_submodules_are_reachable():
    subprocess.run([sys.executable, '-c', SCRIPT], check=True, timeout=120)
