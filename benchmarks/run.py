r"""Measures the parts of the library.

python benchmarks/run.py spmm --graphs power-1e6 --channels 16 64 256
python benchmarks/run.py all --quick
python benchmarks/run.py epoch --root data --modes fp32 bf16
"""

import argparse
import math
import shlex
import signal
import sys
from contextlib import nullcontext
from os.path import expanduser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import report
from benchmarks.device import to_device
from benchmarks.families import FAMILIES
from benchmarks.graphs import check_name
from benchmarks.plots import draw
from benchmarks.registry import Record
from benchmarks.scale import MIN_FRACTION
from benchmarks.session import (
    Options,
    Session,
    failures,
    progress,
    unavailable,
)
from benchmarks.timing import memory_limit
from diffmm_geo.utils.atomic import atomic_path


def parse_args(argv: list[str] | None = None) -> tuple[list[str], Options]:
    summaries = (f'  {f.name:10} {f.summary}' for f in FAMILIES.values())
    parser = argparse.ArgumentParser(
        description='\n'.join([__doc__ or '', 'families:', *summaries]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('family', choices=[*FAMILIES, 'all'])
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--root', type=expanduser, default='data', help='holds NAME/raw/'
    )
    parser.add_argument(
        '--output', type=expanduser, help='default: runs/bench/FAMILY'
    )
    parser.add_argument('--quick', action='store_true', help='about a minute')
    parser.add_argument(
        '--graphs',
        nargs='+',
        metavar='GRAPH',
        help='tiktok, amazon-baby, movielens-100k, power-1e5 to power-1e8, '
        'power-USERSxITEMSxEDGES',
    )
    parser.add_argument('--backends', nargs='+', metavar='BACKEND')
    parser.add_argument('--channels', nargs='+', type=positive)
    parser.add_argument('--dtypes', nargs='+', metavar='DTYPE')
    parser.add_argument('--directions', nargs='+', metavar='DIRECTION')
    parser.add_argument('--modes', nargs='+', metavar='MODE')
    parser.add_argument(
        '--sizes', nargs='+', type=positive, help='nodes (info_nce)'
    )
    parser.add_argument(
        '--hidden', type=positive, help="the denoiser's (generate)"
    )
    parser.add_argument('--epochs', type=positive, default=5)
    parser.add_argument(
        '--seconds', type=float, default=0.5, help='to time a kernel'
    )
    parser.add_argument(
        '--max-seconds',
        type=float,
        default=60.0,
        help='limit of a call, or of an epoch of growth',
    )
    parser.add_argument(
        '--memory',
        type=float,
        help='limit in GB (default: 20 on a CPU, the free memory of a GPU)',
    )
    parser.add_argument(
        '--threads', type=positive, help="PyTorch's; fewer on a busy machine"
    )
    parser.add_argument(
        '--fraction',
        type=float,
        default=1.0,
        help='fraction of steps to time in phases of over half an hour, at '
        'least 0.1 (scale)',
    )
    parser.add_argument(
        '--scratch',
        type=expanduser,
        help='folder of feature files (scale; default: temporary)',
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)

    try:
        names = list(FAMILIES) if args.family == 'all' else [args.family]
        check_choices(args, names)
        options = to_options(args)
    except ValueError as error:
        parser.error(str(error))
    return names, options


def positive(text: str) -> int:
    value = int(float(text))  # 1e5, too
    if value < 1:
        raise ValueError
    return value


def check_choices(args: argparse.Namespace, names: list[str]) -> None:
    for option in ('backends', 'dtypes', 'directions', 'modes'):
        choices = dict.fromkeys(
            choice
            for name in names
            for choice in FAMILIES[name].choices.get(option, ())
        )
        for value in getattr(args, option) or ():
            if value not in choices:
                known = ', '.join(choices) or f'nothing: {args.family} has none'
                raise ValueError(
                    f'argument --{option}: no {value!r} (choose from {known})'
                )
    for name in args.graphs or ():
        check_name(name)
    for option in ('seconds', 'max_seconds', 'memory'):
        value = getattr(args, option)
        if value is not None and not value > 0:
            flag = option.replace('_', '-')
            raise ValueError(f'argument --{flag}: needs to be above zero')
    if not MIN_FRACTION <= args.fraction <= 1:
        raise ValueError(
            f'argument --fraction: needs to be from {MIN_FRACTION} to 1'
        )


def to_options(args: argparse.Namespace) -> Options:
    def many(name: str) -> tuple | None:
        value = getattr(args, name)
        return None if value is None else tuple(value)

    device, memory = to_device(args.device), args.memory
    if memory is None:
        memory = 20.0 if device.type == 'cpu' else math.inf
    return Options(
        device=device,
        root=Path(args.root).resolve(),
        output=Path(args.output or f'runs/bench/{args.family}'),
        graphs=many('graphs'),
        backends=many('backends'),
        channels=many('channels'),
        dtypes=many('dtypes'),
        directions=many('directions'),
        modes=many('modes'),
        sizes=many('sizes'),
        hidden=args.hidden,
        threads=args.threads,
        epochs=1 if args.quick else args.epochs,
        seconds=min(args.seconds, 0.02) if args.quick else args.seconds,
        memory=1e9 * memory,
        max_seconds=args.max_seconds,
        quick=args.quick,
        fraction=args.fraction,
        scratch=None if args.scratch is None else Path(args.scratch),
        seed=args.seed,
    )


def run_family(session: Session, name: str) -> None:
    family = FAMILIES[name]
    progress(f'\n{name}: {family.summary}')
    records: list[Record] = []
    try:
        for record in family.run(session):
            records.append(record)
            session.add(record)
            progress(f'  {report.line(record)}')
    finally:  # Also after Ctrl-C.
        write_reports(session, name, records)


def write_reports(session: Session, name: str, records: list[Record]) -> None:
    output = session.options.output
    if not records:
        progress('  nothing to measure with these options')
        return
    text = report.table(records)
    print(f'\n{name}\n{text}', flush=True)
    with atomic_path(str(output / f'{name}.txt')) as path:
        head = report.header(session.environment, session.ceilings)
        Path(path).write_text(f'{head}\n\n{text}\n')
    for plot in FAMILIES[name].plots:
        file = f'{name}_{plot.__name__.removeprefix("plot_")}.png'
        draw(plot, records, session.ceilings, output / file)


def main(argv: list[str] | None = None) -> int:
    names, options = parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    arguments = sys.argv[1:] if argv is None else argv
    session = Session(options, shlex.join(['benchmarks/run.py', *arguments]))
    progress(report.header(session.environment, session.ceilings))
    # The driver of a GPU reserves more addresses than there is memory.
    on_cpu = options.device.type == 'cpu'
    guard = memory_limit(session.memory) if on_cpu else nullcontext()
    try:
        with guard:
            for name in names:
                run_family(session, name)
        session.complete = True
        session.write()
    except KeyboardInterrupt:
        progress(f"interrupted: '{options.output}' has what was measured")
        return 130
    except (FileNotFoundError, ValueError) as error:
        progress(f'error: {error}')
        return 2
    progress(f"\nresults.json, tables and plots are in '{options.output}'")
    for text in unavailable(session.records):
        progress(f'not available: {text}')
    wrong = list(failures(session.records))
    for record in wrong:
        progress(f'FAILED {report.line(record)}')
    return 1 if wrong else 0


if __name__ == '__main__':
    # A terminated job also writes its measurements.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
