"""Checks and measures everything on one GPU, and leaves a file for each phase.

python -m benchmarks.gpu --output runs/gpu
python -m benchmarks.gpu --device cpu --quick
"""

from __future__ import annotations

# Imports no PyTorch: this process writes the summary whatever happens to the
# device, and from the first second.
import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any

from benchmarks.gpu.background import Background
from benchmarks.gpu.phase import PHASES, Phase, Spec
from benchmarks.gpu.results import archive, read
from benchmarks.gpu.summary import failures, summarize
from diffmm_geo.utils.atomic import atomic_path

# To end the last phase, and to write the summary.
RESERVE = 5.0
# What a phase takes at most to end, once it is terminated, as a rule.
OVERRUN = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
        default=540.0,
        help='limit of the run, which skips its last phases (default: 540)',
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
    for name in ('root', 'sources'):
        value = getattr(args, name)
        if value is not None and not Path(value).is_dir():
            parser.error(f"argument --{name}: no folder '{value}'")
    if not args.seconds > 0:
        parser.error('argument --seconds: needs to be above zero')
    return args


class Run:
    """A run of phases, with the outcome of each so far."""

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self.output: Path = args.output
        self.spec = Spec(
            device=args.device,
            output=str(args.output.resolve()),
            scratch=str(scratch),
            quick=args.quick,
            root=args.root and str(Path(args.root).resolve()),
            sources=args.sources and str(Path(args.sources).resolve()),
        )
        self.start = time.monotonic()
        self.deadline = self.start + args.seconds - RESERVE
        self.outcomes: dict[str, str] = {}
        self.spec.logs.mkdir()
        for name in args.phases:  # Of an earlier run.
            self.spec.path(name).unlink(missing_ok=True)

    def run(self, phases: Sequence[Phase]) -> None:
        with Background(self.spec) as background:
            for number, phase in enumerate(phases):
                self.outcomes[phase.name] = 'begun'
                self.write()
                left = self.deadline - time.monotonic()
                if phase.in_background:
                    outcome = background.wait(min(phase.limit, left))
                else:
                    outcome = self.outcome(phase, phases[number + 1 :], left)
                self.outcomes[phase.name] = outcome

    def outcome(self, phase: Phase, later: Sequence[Phase], left: float) -> str:
        """Runs a phase, and returns its outcome."""
        done = 'environment' in self.outcomes and phase.name != 'environment'
        if done and 'environment' not in read(self.spec.path('environment')):
            return 'left out: the device is not available'
        if left < phase.least and not self.spec.quick:
            return f'left out: {max(left, 0):.0f} s were left'
        text = f'{phase.name}: {phase.summary}'
        print(text, file=sys.stderr, flush=True)
        return phase.run(self.spec, limit_of(phase, later, left))

    def write(self) -> str:
        """Writes the summary and the logs, and returns the summary."""
        seconds = time.monotonic() - self.start
        text = summarize(self.output, self.outcomes, seconds)
        with atomic_path(str(self.output / 'summary.txt')) as path:
            Path(path).write_text(f'{text}\n')
        archive(self.spec.logs, self.output / 'logs.tar.gz')
        return text

    def end(self) -> str:
        """Tidies up, when no phase runs any more."""
        for path in self.output.glob('*.tmp'):  # Of a killed phase.
            path.unlink()
        return self.write()


def limit_of(phase: Phase, later: Sequence[Phase], left: float) -> float:
    """The seconds that a phase may take. It leaves the next ones their least,
    if there is time for it.
    """
    spare = left - phase.least
    for other in later:
        if other.least + OVERRUN > spare:
            break
        spare -= other.least + OVERRUN
    return min(phase.limit, phase.least + spare)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    interrupted = False
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(args, Path(scratch))
        try:
            run.run([p for p in PHASES if p.name in args.phases])
        except KeyboardInterrupt:
            interrupted = True
            run.outcomes[list(run.outcomes)[-1]] = 'interrupted'
        text = run.end()
    if interrupted:
        print(f"interrupted: '{args.output}' has what was measured")
        return 130
    print(text)
    return 1 if any(failures(args.output, run.outcomes)) else 0


def interrupt(*_: Any) -> None:
    """Ends the run once: what follows writes what was measured."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == '__main__':
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # As `nohup` does.
            signal.signal(number, interrupt)
    sys.exit(main())
