r"""The common parts of all experiments: arguments, runs and output."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import product
from os.path import expanduser
from pathlib import Path
from typing import Any

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_device, check_int
from examples import command_line
from examples.experiments.floor_run import FloorRun, run_floor
from examples.experiments.models import FLOORS, MODELS
from examples.experiments.run_store import OBSERVED, Run, RunStore

METRICS = ('recall@20', 'precision@20', 'ndcg@20')


def make_parser(description: str) -> argparse.ArgumentParser:
    r"""The arguments of all experiments."""
    parser = command_line.make_parser(
        description,
        *(*command_line.DATA, 'seeds', 'epochs', 'device'),
        *command_line.SPEED,
        allow_abbrev=False,  # `Experiment.command` knows flags by name.
    )
    parser.set_defaults(seeds=[0])
    parser.add_argument(
        '--runs',
        type=expanduser,
        default='runs/experiments',
        help='folder that keeps trained models for all experiments '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--output',
        type=expanduser,
        default='runs/reports',
        help='folder for the table, picture and JSON (default: %(default)s)',
    )
    return parser


def add_models(
    parser: argparse.ArgumentParser, choices: Sequence[str] = tuple(MODELS)
) -> None:
    r"""The arguments of experiments that compare models."""
    parser.add_argument(
        '--models', nargs='+', choices=choices, default=list(choices)
    )
    parser.add_argument(
        '--no-tuning',
        action='store_true',
        help='use the default settings of baselines, instead of choosing them '
        'by validation on the first seed',
    )


class Experiment:
    r"""An experiment on a data set.

    Args:
        name (str): The name of its module.
        args (argparse.Namespace): Its arguments.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name = name
        self.args = args
        self._chosen: dict[str, str] = {}
        for seed in args.seeds:
            check_int('--seeds', seed, 0)
        if len(set(args.seeds)) < len(args.seeds):
            raise ValueError(
                f"'--seeds' needs distinct numbers (got {args.seeds})"
            )
        check_device(args.device)
        command_line.need('matplotlib')
        for flag in ('runs', 'output'):
            command_line.check_output(flag, getattr(args, flag))
        self.data = command_line.load_data(args)
        if 'test_edge_label_index' not in self.data[OBSERVED]:
            raise ValueError(
                f"'dataset' needs test interactions (got none in "
                f'{args.dataset!r})'
            )
        self.store = RunStore(
            args.runs, args.dataset, self.data, args.device, _show
        )

    def config(self, model: str, seed: int, **changes: Any):
        r"""The settings of a model on the data set, changed by the arguments
        and by :obj:`changes`.
        """
        config = MODELS[model].config(self.args.dataset)
        known = {f.name for f in fields(config)}
        given = command_line.given_settings(self.args).items()
        given = {name: x for name, x in given if name in known}
        return replace(config, **{**given, 'seed': seed, **changes})

    def run(self, model: str, seed: int, **changes: Any) -> Run:
        r"""Trains a model, or loads it from the store."""
        label = ', '.join(
            [model, *(f'{k} {v}' for k, v in changes.items()), f'seed {seed}']
        )
        config = self.config(model, seed, **changes)
        return self.store.run(model, config, label)

    def runs(self, model: str, **changes: Any) -> list[Run]:
        r"""A run for each seed."""
        return [self.run(model, seed, **changes) for seed in self.args.seeds]

    def tuned_runs(self, model: str) -> Sequence[Run | FloorRun]:
        r"""A run for each seed, with the settings from the model's grid that
        are best by validation on the first seed. A floor has one run.
        """
        if model in FLOORS:
            floor = run_floor(model, self.data, self.args.device)
            val, test = (floor.result[s]['recall@20'] for s in ('val', 'test'))
            _show(f'{model}: recall@20 validation {val:.4f}, test {test:.4f}')
            return [floor]
        grid = MODELS[model].grid
        if self.args.no_tuning or not grid:
            return self.runs(model)
        settings = [dict(zip(grid, x)) for x in product(*grid.values())]
        tried = [self.run(model, self.args.seeds[0], **s) for s in settings]
        val = [run.result['best_val']['val']['recall@20'] for run in tried]
        chosen = settings[val.index(max(val))]
        text = ', '.join(f'{k} {v}' for k, v in chosen.items())
        _show(f'{model}: {text} by validation')
        self._chosen[model] = text
        return self.runs(model, **chosen)

    @property
    def chosen_settings(self) -> str:
        r"""A sentence on the settings that :meth:`tuned_runs` chose."""
        if not self._chosen:
            return ''
        chosen = '; '.join(f'{k}: {v}' for k, v in self._chosen.items())
        return (
            f' Validation on seed {self.args.seeds[0]} chose these settings '
            f'from the grids in `models.py`: {chosen}.'
        )

    @property
    def command(self) -> str:
        r"""The command, without local folders."""
        words, skip = [], ('--output', '--runs')
        arguments = iter(sys.argv[1:])
        for word in arguments:
            flag, _, value = word.partition('=')
            if flag in (*skip, '--root'):
                if not value:
                    next(arguments, None)
                if flag == '--root':
                    words += ['--root', 'ROOT']
            else:
                words.append(word)
        module = f'examples.experiments.{self.name}'
        return shlex.join(['python', '-m', module, *words])

    def write(
        self,
        title: str,
        text: str,
        figure: Any,
        results: Any,
        suffix: str = '',
    ) -> None:
        r"""Writes `NAME-DATASET.md`, `.png` and `.json` and prints the text.

        Args:
            title (str): The title.
            text (str): Tables and their descriptions, in Markdown.
            figure (matplotlib.figure.Figure): The figure.
            results (dict): The content of the JSON.
            suffix (str, optional): Distinguishes the files of an experiment
                with several results. (default: `''`)
        """
        folder = Path(self.args.output)
        folder.mkdir(parents=True, exist_ok=True)
        stem = f'{self.name.replace("_", "-")}-{self.args.dataset}'
        stem = f'{stem}-{suffix}' if suffix else stem
        content = {
            'command': self.command,
            'dataset': self.args.dataset,
            'modalities': self.store.modalities,
            **results,
        }
        page = (
            f'# {title}\n\n```bash\n{self.command}\n```\n\n{text}\n\n'
            f'![{title}]({stem}.png)\n'
        )
        with atomic_path(str(folder / f'{stem}.json')) as path:
            Path(path).write_text(json.dumps(content, indent=2) + '\n')
        with atomic_path(str(folder / f'{stem}.png')) as path:
            figure.savefig(path, dpi=150, format='png')
        with atomic_path(str(folder / f'{stem}.md')) as path:
            Path(path).write_text(page)
        print(f'\n{text}\n\n{stem}.md, .png and .json are in {folder}')


def start(main: Callable[[], None]) -> None:
    r"""Runs an experiment from the command line."""
    command_line.start(main, 'interrupted; repeat the command to resume')


def _show(line: str) -> None:
    print(line, flush=True)
