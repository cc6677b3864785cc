r"""Searches for DiffMM's settings with Optuna, by validation Recall. Only the
best trial is evaluated on the test set, at the end.

    python -m examples.experiments.search --dataset tiktok --root ROOT \
        --modalities image audio --trials 30 --parameters reg_weight ssl_weight

Needs the extra `search`. A file next to the runs holds the study: the same
command continues it, also with a larger number of trials.
"""

from pathlib import Path

from filelock import FileLock, Timeout

from diffmm_geo.utils.checks import check_int
from examples.experiments.experiment import (
    METRICS,
    Experiment,
    make_parser,
    start,
)
from examples.experiments.plots import (
    COLORS,
    GREY,
    log_scale,
    new_figure,
    tidy,
)
from examples.experiments.table import (
    markdown_table,
    mean_and_deviation,
    of_seeds,
    values_of,
)

# The range of each setting.
SPACE = {
    'reg_weight': lambda t, n: t.suggest_float(n, 1e-7, 1e-3, log=True),
    'ssl_weight': lambda t, n: t.suggest_float(n, 1e-3, 1.0, log=True),
    'temperature': lambda t, n: t.suggest_float(n, 0.1, 1.0),
    'anchor': lambda t, n: t.suggest_categorical(n, ['main', 'modality']),
    'keep_rate': lambda t, n: t.suggest_float(n, 0.2, 1.0),
    'msi_weight': lambda t, n: t.suggest_float(n, 1e-3, 1.0, log=True),
    'generated_weight': lambda t, n: t.suggest_float(n, 0.0, 1.0),
    'residual_weight': lambda t, n: t.suggest_float(n, 0.0, 1.0),
    'num_edges_per_user': lambda t, n: t.suggest_int(n, 1, 10, log=True),
    'num_layers': lambda t, n: t.suggest_int(n, 1, 3),
    'lr': lambda t, n: t.suggest_float(n, 3e-4, 1e-2, log=True),
}
LOG = {'reg_weight', 'ssl_weight', 'msi_weight', 'lr'}
DEFAULT = ['reg_weight', 'ssl_weight', 'temperature', 'msi_weight']


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--trials', type=int, default=20, help='default: 20')
    parser.add_argument(
        '--parameters',
        nargs='+',
        choices=SPACE,
        default=DEFAULT,
        help=f'default: {" ".join(DEFAULT)}',
    )
    args = parser.parse_args()
    check_int('--trials', args.trials)
    try:
        import optuna
    except ImportError:
        raise ImportError(
            "this needs Optuna: pip install 'diffmm_geo[search]'"
        ) from None
    experiment = Experiment('search', args)
    seed = args.seeds[0]

    def objective(trial):
        changes = {name: SPACE[name](trial, name) for name in args.parameters}
        try:
            of = experiment.runs('DiffMM', **changes)
        except FloatingPointError as error:
            raise optuna.TrialPruned(str(error)) from None
        val = [run.result['best_val']['val']['recall@20'] for run in of]
        return sum(val) / len(val)

    # A study has one search space, one data set and one set of base settings.
    base = experiment.store.folder('DiffMM', experiment.config('DiffMM', seed))
    name = '-'.join([base.name, *sorted(args.parameters)])
    folder = Path(args.runs) / args.dataset / 'search'
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / f'{name}.lock').acquire(timeout=0)
    except Timeout:
        raise ValueError(f'another process is at the study {name}') from None
    with lock:
        State = optuna.trial.TrialState
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = open_study(optuna, folder / f'{name}.log', seed)
        done = study.get_trials(states=(State.COMPLETE, State.PRUNED))
        if len(done) < args.trials:
            study.optimize(objective, n_trials=args.trials - len(done))
    report(experiment, study)


def open_study(optuna, path, seed):
    r"""The study in a file. Interrupted trials are queued again, and their runs
    resume from their checkpoints.
    """
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name='search',
        direction='maximize',
        load_if_exists=True,
    )
    # Continues with other values than at its start.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    State = optuna.trial.TrialState
    for trial in study.get_trials(states=(State.RUNNING,)):  # Killed.
        study.tell(trial.number, state=State.FAIL)
    taken_up = [
        trial.params or trial.system_attrs.get('fixed_params')
        for trial in study.get_trials()
        if trial.state != State.FAIL
    ]
    for trial in study.get_trials(states=(State.FAIL,)):
        if trial.params not in taken_up:
            study.enqueue_trial(trial.params)
            taken_up.append(trial.params)
    return study


def report(experiment, study):
    args = experiment.args
    trials = [t for t in study.trials if t.value is not None]
    if not trials:
        raise ValueError(
            f"'--trials' needs one that ends (got none of "
            f'{len(study.trials)} trials with a finite loss)'
        )
    ranked = sorted(trials, key=lambda t: -t.value)
    best = experiment.runs('DiffMM', **ranked[0].params)
    table = markdown_table(
        ['trial', *args.parameters, 'validation recall@20'],
        [
            [
                t.number,
                *(
                    f'{v:.3g}' if isinstance(v, float) else v
                    for v in (t.params[name] for name in args.parameters)
                ),
                f'{t.value:.4f}',
            ]
            for t in ranked[:10]
        ],
    )
    shown = ', '.join(
        f'{m} {mean_and_deviation(values_of(best, m))}' for m in METRICS
    )
    figure = new_figure(3.0 * (len(args.parameters) + 1), 3.4)
    panels = figure.subplots(1, len(args.parameters) + 1, sharey=True)
    x = [t.number for t in trials]
    so_far = [max(t.value for t in trials[: n + 1]) for n in range(len(trials))]
    panels[0].step(x, so_far, where='post', color=COLORS[1], label='best')
    panels[0].set(xlabel='trial', ylabel='validation Recall@20')
    for axes, name in zip(panels, [None, *args.parameters]):
        if name is not None:
            x = [t.params[name] for t in trials]
            axes.set_xlabel(name)
        y = [t.value for t in trials]
        axes.scatter(x, y, s=22, color=GREY, alpha=0.7, linewidths=0)
        top = trials.index(ranked[0])
        axes.scatter(x[top], y[top], s=60, color=COLORS[1], zorder=3)
        if name in LOG:
            log_scale(axes)
        tidy(axes)
    figure.suptitle(f'Search on {args.dataset}')
    experiment.write(
        f'Search on {args.dataset}',
        f'The best of {len(trials)} trials by validation Recall. Test metrics '
        f'of the first, {of_seeds(args.seeds)}: {shown}.\n\n{table}',
        figure,
        {
            'trials': [
                {'number': t.number, 'params': t.params, 'value': t.value}
                for t in trials
            ],
            'best': {
                'params': ranked[0].params,
                'runs': [run.summary() for run in best],
            },
        },
    )


if __name__ == '__main__':
    start(main)
