r"""Trains in several processes what tests then train in one:

torchrun --nproc-per-node 2 distributed_runs.py FOLDER
torchrun --nproc-per-node 2 distributed_runs.py FOLDER kill [shard]
"""

import json
import os
import signal
import sys
from pathlib import Path

# Not installed, and imported by other names in pytest.
sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from torch_geometric.data import HeteroData

from diffmm_geo.training import DiffMMConfig, save_run
from diffmm_geo.training.distributed import (
    DistributedDiffMMTrainer,
    LostRankError,
    joined_ranks,
)

NUM_EPOCHS = 4
# The number of modalities, and settings. Of three modalities, a rank of two
# trains two; of one modality, the second rank waits.
CASES = {
    'two': (2, {}),
    'three': (3, {'anchor': 'modality', 'num_candidates': 20}),
    'gram': (1, {'diffusion_form': 'gram', 'num_generated_from': 9}),
    'sampled': (3, {'diffusion_form': 'sampled', 'num_edges_per_user': 2}),
    'random': (2, {'generator': 'random'}),
    'masked': (
        2,
        {
            'likelihood': 'multinomial',
            'exclude_observed': True,
            'num_edges_per_user': 40,
        },
    ),
    # The last batch has a single interaction, and one rank none.
    'small': (1, {'batch_size': 67, 'num_epochs': 2}),
}


def make_data(num_modalities):
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 70, 40
    for n in range(num_modalities):
        data['item'][f'x_{n}'] = torch.randn(40, 6 + n, generator=generator)
    pairs = torch.randperm(70 * 40, generator=generator)[:603]
    edges = torch.stack([pairs // 40, pairs % 40])
    store = data['user', 'interacts', 'item']
    store.edge_index = edges[:, :403]
    store.val_edge_label_index = edges[:, 403:503]
    store.test_edge_label_index = edges[:, 503:]
    return data


def make_config(**kwargs):
    kwargs = {
        'num_epochs': NUM_EPOCHS,
        'batch_size': 32,
        'embedding_dim': 8,
        'hidden_channels': 16,
        'k': 5,
        **kwargs,
    }
    return DiffMMConfig(**kwargs)


def make_trainer(name, ranks=None, shard_parameters=False, **kwargs):
    num_modalities, settings = CASES[name]
    config = make_config(**{**settings, **kwargs})
    return DistributedDiffMMTrainer(
        make_data(num_modalities),
        config,
        ranks=ranks,
        shard_parameters=shard_parameters,
    )


def kill_mid_epoch(trainer, epoch, step):
    r"""Kills this process in a step of an epoch."""
    loss, steps = trainer.task.loss, []

    def killing_loss(batch):
        if len(trainer.history) == epoch - 1:
            steps.append(None)
        if len(steps) == step:
            Path(sys.argv[1], 'killed').touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(batch)

    trainer.task.loss = killing_loss


def error_of(trainer):
    try:
        trainer.fit()
    except (FloatingPointError, RuntimeError) as error:
        return f'{type(error).__name__}: {error}'
    return None


def compare_with_one(folder, ranks):
    out = {}
    for name in CASES:
        trainer = make_trainer(name, ranks)
        out[name] = trainer.fit()
        # The best weights are restored.
        assert trainer.evaluate('val') == trainer.best_val['val']
    trainer = make_trainer('three', ranks)
    out['resumed'] = trainer.fit(checkpoint_dir=folder / 'one', resume=True)

    out['sharded'] = run_sharded(folder, ranks)

    trainer = make_trainer('two', ranks)
    with torch.no_grad():
        trainer.diffusion.denoisers['1'].lin_out.bias[0] = float('nan')
    out['not finite'] = error_of(trainer)

    trainer = make_trainer('two', ranks)
    with trainer.task.random_state.entered():
        torch.manual_seed(ranks.rank)
    out['other seed'] = error_of(trainer)
    (folder / f'{ranks.rank}.json').write_text(json.dumps(out))


def run_sharded(folder, ranks):
    r"""Weights split among ranks, from a checkpoint of two epochs of ranks
    that split them as well; the weights are those that are saved.
    """
    for num_epochs in (2, NUM_EPOCHS):
        trainer = make_trainer(
            'three', ranks, shard_parameters=True, num_epochs=num_epochs
        )
        weight = trainer.model.user_emb.weight
        assert weight.to_local().size(0) == 35
        trainer.fit(checkpoint_dir=folder / 'sharded', resume=num_epochs > 2)
        assert trainer.evaluate('val') == trainer.best_val['val']
    optimizer = trainer.task.optimizers['model']
    moments = optimizer.state[trainer.model.user_emb.weight]
    assert moments['exp_avg'].to_local().size(0) == 35
    save_run(trainer, folder / 'run')
    return trainer.history


def main(folder, kill, shard):
    torch.set_num_threads(1)
    with joined_ranks(timeout=20) as ranks:
        if not kill:
            compare_with_one(folder, ranks)
            return
        trainer = make_trainer('two', ranks, shard)
        if ranks.rank == 1:
            kill_mid_epoch(trainer, epoch=3, step=4)
        trainer.fit(checkpoint_dir=folder / 'checkpoints')


if __name__ == '__main__':
    try:
        main(Path(sys.argv[1]), 'kill' in sys.argv, 'shard' in sys.argv)
    except LostRankError as error:
        sys.exit(f'error: {error}')
