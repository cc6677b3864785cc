"""All families of benchmarks: to import one registers it."""

import benchmarks.epoch
import benchmarks.evaluate
import benchmarks.generate
import benchmarks.growth
import benchmarks.info_nce
import benchmarks.propagate
import benchmarks.scale
import benchmarks.spmm
import benchmarks.topk  # noqa: F401
from benchmarks.registry import FAMILIES

__all__ = ['FAMILIES']
