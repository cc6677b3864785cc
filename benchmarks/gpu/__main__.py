"""Checks and measures everything on one GPU, and leaves a file for each phase.

python -m benchmarks.gpu --output runs/gpu
python -m benchmarks.gpu --device cpu --quick
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from os.path import expanduser
from pathlib import Path

from benchmarks.device import to_device
from benchmarks.gpu.background import Background
from benchmarks.gpu.phase import PHASES, Phase, Spec
from benchmarks.gpu.summary import failures, summarize

# To write the summary.
RESERVE = 5.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.gpu',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--output', type=expanduser, default='runs/gpu')
    parser.add_argument(
        '--seconds',
        type=float,
        default=480.0,
        help='limit of the run, which skips its last phases (default: 480)',
    )
    parser.add_argument(
        '--quick', action='store_true', help='tiny inputs, a sample of cases'
    )
    parser.add_argument(
        '--root',
        type=expanduser,
        help='folder of tiktok/raw/ (default: generated data)',
    )
    parser.add_argument(
        '--sources',
        type=expanduser,
        help='folder with source archives or wheels of torch-scatter and '
        'torch-sparse, to compare with',
    )
    parser.add_argument(
        '--phases',
        nargs='+',
        choices=[phase.name for phase in PHASES],
        default=[phase.name for phase in PHASES],
    )
    args = parser.parse_args(argv)
    args.output = Path(args.output)
    try:
        to_device(args.device)
    except ValueError as error:
        parser.error(str(error))
    for name in ('root', 'sources'):
        value = getattr(args, name)
        if value is not None and not Path(value).is_dir():
            parser.error(f"argument --{name}: no folder '{value}'")
    if not args.seconds > 0:
        parser.error('argument --seconds: needs to be above zero')
    return args


def run(args: argparse.Namespace, scratch: Path) -> dict[str, str]:
    """Runs the phases, and returns the outcome of each."""
    deadline = time.monotonic() + args.seconds - RESERVE
    spec = Spec(
        device=args.device,
        output=str(args.output.resolve()),
        scratch=str(scratch),
        quick=args.quick,
        root=args.root and str(Path(args.root).resolve()),
        sources=args.sources and str(Path(args.sources).resolve()),
    )
    phases = [phase for phase in PHASES if phase.name in args.phases]
    outcomes: dict[str, str] = {}
    with Background(spec) as background:
        for phase in phases:
            left = deadline - time.monotonic()
            if phase.in_background:
                outcomes[phase.name] = background.wait(min(phase.limit, left))
                continue
            outcomes[phase.name] = run_phase(phase, spec, left)
    return outcomes


def run_phase(phase: Phase, spec: Spec, left: float) -> str:
    if left < phase.least and not spec.quick:
        return f'left out: {max(left, 0):.0f} s were left'
    print(f'{phase.name}: {phase.summary}', file=sys.stderr, flush=True)
    return phase.run(spec, min(phase.limit, left))


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            outcomes = run(args, Path(scratch))
    except KeyboardInterrupt:
        print(f"interrupted: '{args.output}' has what was measured")
        return 130
    text = summarize(args.output, outcomes, time.monotonic() - start)
    (args.output / 'summary.txt').write_text(f'{text}\n')
    print(text)
    return 1 if any(failures(args.output, outcomes)) else 0


if __name__ == '__main__':
    # A terminated run keeps its measurements.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
