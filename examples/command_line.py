r"""What the command lines of the examples share."""

import argparse
import os
import sys
from dataclasses import replace
from os.path import expanduser
from pathlib import Path

from diffmm_geo.datasets import DATASETS, load_dataset
from diffmm_geo.nn.diffusion import FORMS
from diffmm_geo.training import PRECISIONS, RECIPES
from diffmm_geo.utils.extras import check_package

# Shells leave the ~ of --root=~/data as it is.
PATH = {'type': expanduser}
OPTIONS = {
    'dataset': {
        'default': 'movielens-100k',
        'help': f'one of {", ".join(DATASETS)}, or the NAME of NAME.inter in '
        "MMRec's format under ROOT/raw (default: %(default)s)",
    },
    'root': {**PATH, 'help': 'folder of the data set (default: data/DATASET)'},
    'modalities': {
        'nargs': '+',
        'help': 'default: all modalities of the data set',
    },
    'reload': {
        'action': 'store_true',
        'help': 'process the raw files again, even if they have not changed',
    },
    'drop-cold-users': {
        'action': 'store_true',
        'help': 'drop held-out interactions of users without training '
        'interactions, as MMRec does',
    },
    'epochs': {'type': int, 'help': 'upper limit (default: recipe)'},
    'seed': {'type': int, 'default': 0},
    'seeds': {
        'type': int,
        'nargs': '+',
        'default': [0, 1, 2],
        'help': 'default: %(default)s',
    },
    'device': {'default': 'cpu'},
    'precision': {
        'choices': PRECISIONS,
        'help': 'dtype of large products (default: recipe)',
    },
    'diffusion-form': {
        'choices': FORMS,
        'help': 'training of denoisers; sampled is the fastest '
        '(default: recipe)',
    },
    'num-candidates': {
        'type': int,
        'help': 'candidates of the contrastive loss per step '
        '(default: all nodes)',
    },
    'checkpoint-dir': {**PATH, 'help': 'folder for a checkpoint of each epoch'},
    'resume': {
        'action': 'store_true',
        'help': 'resume from the checkpoint, if any',
    },
    'output': {**PATH, 'help': 'folder for results (default: runs/DATASET)'},
}
DATA = ('dataset', 'root', 'modalities', 'reload', 'drop-cold-users')
SPEED = ('precision', 'diffusion-form', 'num-candidates')


def make_parser(description, *names, **kwargs):
    r"""A parser with the named ones of `OPTIONS`."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **kwargs,
    )
    for name in names:
        parser.add_argument(f'--{name}', **OPTIONS[name])
    return parser


def need(*packages):
    r"""Looks for packages of the extra `examples`, before any work."""
    if sys.stderr.isatty():
        packages = (*packages, 'tqdm')
    for package in packages:
        check_package(package, 'examples', 'This example')


def check_output(flag, path, is_file=False):
    r"""Checks a file or folder to write, before any work."""
    kind, other = ('file', 'folder') if is_file else ('folder', 'file')
    path = Path(path)
    if path.exists() and path.is_dir() == is_file:
        raise ValueError(
            f"'--{flag}' needs to be a {kind} (got the {other} '{path}')"
        )
    # Missing folders are made, except those of a file.
    parents = [path.parent] if is_file else [path, *path.absolute().parents]
    folder = next((p for p in parents if p.exists()), None)
    if folder is None or not folder.is_dir():
        raise ValueError(
            f"'--{flag}' needs to be a {kind} in an existing folder "
            f"(got '{path}')"
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"'--{flag}' needs to be a {kind} to write (got '{path}', where "
            f"'{folder}' is read-only)"
        )


def load_data(args):
    root = args.root or f'data/{args.dataset}'
    return load_dataset(
        args.dataset, root, args.modalities, args.reload, args.drop_cold_users
    )


def given_settings(args):
    r"""The settings of a trainer that the arguments give."""
    names = ('seed', 'k', *(name.replace('-', '_') for name in SPEED))
    given = {'num_epochs': args.epochs}
    given |= {name: getattr(args, name, None) for name in names}
    return {name: x for name, x in given.items() if x is not None}


def make_config(args):
    r"""The recipe of the data set, changed where a value is given."""
    recipe = RECIPES.get(args.dataset, RECIPES['default'])
    return replace(recipe, **given_settings(args))


def start(main, interrupted='Interrupted.'):
    r"""Runs an example. Errors and interrupts end it with one line."""
    try:
        main()
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f'error: {error}')
