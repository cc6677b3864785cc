"""Trains an epoch with a million users and items in device memory."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks import report
from benchmarks.device import to_device
from benchmarks.families import FAMILIES
from benchmarks.gpu.graphs import SCALE
from benchmarks.gpu.phase import Spec
from benchmarks.session import Options, Session, progress


def main(spec: Spec) -> None:
    options = Options(
        device=to_device(spec.device),
        root=Path(spec.scratch),
        output=Path(spec.output),
        graphs=None if spec.quick else (SCALE,),
        scratch=Path(spec.scratch),
        memory=20e9 if spec.device == 'cpu' else math.inf,
        quick=spec.quick,
    )
    session = Session(options, results='scale.json')
    for record in FAMILIES['scale'].run(session):
        session.add(record)
        progress(f'  {report.line(record)}')
    session.complete = True
    session.write()


if __name__ == '__main__':
    main(Spec.from_argv())
