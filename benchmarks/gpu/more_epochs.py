"""Trains DiffMM in the modes that are left."""

from __future__ import annotations

from benchmarks.gpu.epoch import FIRST, measure_all
from benchmarks.gpu.phase import Spec

if __name__ == '__main__':
    measure_all(Spec.from_argv(), slice(FIRST, None))
