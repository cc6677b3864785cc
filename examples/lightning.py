r"""Trains DiffMM with Lightning, on one device or several. Processes split
users and interactions, and average gradients.

    python examples/lightning.py --dataset movielens-100k
    torchrun --nproc-per-node 2 examples/lightning.py \
        --dataset tiktok --root data/tiktok --modalities image audio
    python examples/lightning.py --accelerator gpu --devices 4
"""

import os
import sys
import time
import warnings

# Python looks for the package `lightning` beside this file of the same name
# first, unless its folder comes last.
sys.path.append(sys.path.pop(0))

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from command_line import DATA, load_data, make_config, make_parser, start
from diffmm_geo.training.lightning_module import DiffMMLightning


class Seconds(Callback):
    r"""Prints the seconds of each phase of an epoch."""

    def on_train_epoch_start(self, trainer, module):
        module.task.seconds.clear()
        self.start = time.perf_counter()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 0:
            self.start = time.perf_counter()
            self.num_interactions = 0
        self.num_interactions += batch.size(1) * trainer.world_size

    def on_validation_start(self, trainer, module):
        self.end = time.perf_counter()

    def on_validation_end(self, trainer, module):
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        recommend = self.end - self.start
        seconds = {
            **module.task.seconds,  # Of the denoisers, and of generation.
            'recommend': recommend,
            'evaluate': time.perf_counter() - self.end,
        }
        print(
            f'Epoch {trainer.current_epoch + 1}:',
            ', '.join(f'{k} {v:.2f} s' for k, v in seconds.items()),
            f'({self.num_interactions / recommend:,.0f} interactions per '
            f'second), val recall@20 '
            f'{trainer.callback_metrics["val/recall@20"]:.4f}',
            flush=True,
        )


def main():
    parser = make_parser(__doc__, *DATA, 'epochs', 'seed', 'output')
    parser.add_argument(
        '--accelerator',
        default='cpu',
        help="Lightning's, e.g., gpu (default: %(default)s)",
    )
    parser.add_argument(
        '--devices',
        type=int,
        default=int(os.environ.get('LOCAL_WORLD_SIZE', 1)),
        help='of this machine (default: the processes of torchrun, or one)',
    )
    args = parser.parse_args()
    # What follows draws all batches on the device, without workers.
    warnings.filterwarnings('ignore', '.*does not have many workers.*')

    config = make_config(args)
    module = DiffMMLightning(load_data(args), config, args.modalities)
    best = ModelCheckpoint(monitor='val/recall@20', mode='max')
    trainer = Trainer(
        accelerator=args.accelerator,
        devices=args.devices,
        strategy='ddp' if args.devices > 1 else 'auto',
        max_epochs=args.epochs or 3,
        callbacks=[
            Seconds(),
            EarlyStopping(
                'val/recall@20', mode='max', patience=config.patience
            ),
            best,
        ],
        logger=CSVLogger(args.output or f'runs/{args.dataset}', 'lightning'),
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    if 'test' in module.task.edge_label_index:
        trainer.test(module, ckpt_path=best.best_model_path)


if __name__ == '__main__':
    start(main)
