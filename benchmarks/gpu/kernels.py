"""Times kernels against other libraries. Each family has a time budget."""

from __future__ import annotations

import math
import time
from pathlib import Path

from benchmarks import report
from benchmarks.device import to_device
from benchmarks.families import FAMILIES
from benchmarks.gpu.graphs import BABY, KERNELS, QUICK, TIKTOK
from benchmarks.gpu.phase import Spec
from benchmarks.session import Options, Session, progress

# Shares of the remaining seconds, in this order.
SHARES = {
    'spmm': 0.45,
    'info_nce': 0.35,
    'propagate': 0.6,
    'topk': 0.5,
    'generate': 1.0,
}
# Cases that would measure ours twice.
BACKENDS = ('ours', 'triton', 'torch_sparse')


def options(spec: Spec, family: str) -> Options:
    """The measurements of a family."""
    graphs = (QUICK,) if spec.quick else KERNELS
    if family in ('topk', 'generate') and not spec.quick:
        graphs = (TIKTOK, BABY)
    backends = FAMILIES[family].choices.get('backends', ())
    if family in ('spmm', 'propagate'):
        backends = [
            name
            for name in backends
            if name in BACKENDS or name.startswith('peer')
        ]
    return Options(
        device=to_device(spec.device),
        root=Path(spec.scratch),
        output=Path(spec.output),
        graphs=tuple(graphs),
        backends=tuple(n for n in backends if n != 'peer-compile'),
        channels=(16,) if spec.quick else channels(family),
        dtypes=('float32', 'bfloat16'),
        directions=directions(family),
        sizes=(200,) if spec.quick else (16_000, 100_000, 1_000_000),
        hidden=16 if spec.quick else 1000,
        seconds=0.01 if spec.quick else 0.05,
        memory=20e9 if spec.device == 'cpu' else math.inf,
        max_seconds=1.0,
        quick=spec.quick,
    )


def channels(family: str) -> tuple[int, ...]:
    return (64,) if family in ('info_nce', 'topk') else (64, 128, 256)


def directions(family: str) -> tuple[str, ...]:
    if family == 'info_nce':
        return 'forward', 'backward'
    return 'forward', 'grad_x'


def main(spec: Spec) -> None:
    deadline = time.monotonic() + spec.seconds
    session = Session(options(spec, 'spmm'), results='kernels.json')
    for name, share in SHARES.items():
        end = time.monotonic() + share * (deadline - time.monotonic())
        session.options, first = options(spec, name), len(session.records)
        for record in FAMILIES[name].run(session):
            session.add(record)
            progress(f'  {report.line(record)}')
            if time.monotonic() > end:
                session.left_out.append(f'{name}: what comes after this')
                break
        if found := session.records[first:]:
            progress(f'\n{name}\n{report.table(found)}\n')
    session.complete = True
    session.write()


if __name__ == '__main__':
    main(Spec.from_argv())
