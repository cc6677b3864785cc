r"""Trains on several ranks what tests then compare with one process:

torchrun --nproc-per-node 2 lightning_ranks.py FOLDER
"""

import copy
import os
import sys
from pathlib import Path

# Not installed, and imported by another name in pytest.
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.training import DiffMMConfig
from tests.planted import planted

NUM_RANKS = 2
# The number of held-out interactions, and settings.
CASES = {
    'diffusion': (41, {'num_candidates': 16, 'keep_rate': 0.5}),
    'gaussian': (41, {'likelihood': 'gaussian', 'num_edges_per_user': 1}),
    # No noise: ranks equal one process with batches of twice the size. There
    # is one user to evaluate, so that one rank has none.
    'observed': (1, {}),
}


class ObservedTask(DiffMMTask):
    r"""Has no denoisers, and takes the observed graph for all modalities."""

    num_denoiser_steps = 0

    def train_denoisers(self, on_step=None, users=None):
        return {}

    def generate(self, users=None):
        return dict.fromkeys(self.model.edge_types[1:], self.edge_index)

    def end_fit(self):
        pass


def task_of(name):
    return ObservedTask if name == 'observed' else DiffMMTask


def make_data(num_held_out):
    # An odd number of users, an even one of interactions.
    data = planted(71, 40, num_train=6)
    store = data['user', 'interacts', 'item']
    store.val_edge_label_index = store.val_edge_label_index[:, :num_held_out]
    return data


def make_config(name, batch_size=24):
    return DiffMMConfig(
        batch_size=batch_size,
        num_epochs=2,
        embedding_dim=8,
        hidden_channels=16,
        lr=1e-2,
        diffusion_lr=1e-2,
        k=5,
        **CASES[name][1],
    )


def main(folder):
    from lightning.pytorch import Trainer

    from diffmm_geo.training import lightning_module

    for name, (num_held_out, _) in CASES.items():
        lightning_module.DiffMMTask = task_of(name)
        module = lightning_module.DiffMMLightning(
            make_data(num_held_out), make_config(name)
        )
        trainer = Trainer(
            max_epochs=2,
            accelerator='cpu',
            strategy='ddp',
            devices=int(os.environ['WORLD_SIZE']),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module)
        logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
        trainer.save_checkpoint(folder / f'{name}.ckpt')
        with module.task.random_state.entered():
            drawn = torch.rand(3)
        out = {
            'logged': logged,
            # Prediction copies those of the first rank to the others.
            'weights': copy.deepcopy(module.state_dict()),
            'generated': module.task.generated,
            'drawn': drawn,
            'predicted': torch.cat(trainer.predict(module)),
        }
        torch.save(out, folder / f'{name}-{trainer.global_rank}.pt')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
