from __future__ import annotations

from typing import Any

from torch_geometric.data import HeteroData

from diffmm_geo.tasks.diffmm_config import DiffMMConfig
from diffmm_geo.training.diffmm_trainer import DiffMMTrainer
from diffmm_geo.utils.checks import check_equal, check_type
from diffmm_geo.utils.ranks import Ranks


class DistributedDiffMMTrainer(DiffMMTrainer):
    r"""The training of :class:`~diffmm_geo.training.DiffMMTrainer` in several
    processes.

    - Each denoiser is trained on one rank, from its own seed, and then sent to
      the other ranks. More ranks than modalities do not speed this up.
    - Each rank generates interactions for its share of users.
    - Each rank propagates over the whole graph and takes its share of each
      batch of interactions. The nodes of this share are also the anchors of the
      contrastive loss. Gradients are summed.
    - Each rank evaluates its share of users.

    All ranks draw the same random orders, negative items and dropped entries.
    Up to rounding, the losses do not depend on the number of ranks.

    Each rank holds the data and all weights. With :obj:`shard_parameters`,
    PyTorch's :func:`~torch.distributed.fsdp.fully_shard` leaves each rank only
    its share of the model's weights: its rows of the ID embeddings, of their
    gradients and of Adam's moments. Each step gathers the weights. The weights
    of the best epoch stay in the memory of the host.

    The first rank calls callbacks and writes checkpoints. All ranks read the
    checkpoints from a shared folder. A run may resume on any number of ranks,
    sharded or not. All ranks need to call each method.

    Args:
        data, config, modalities, model, diffusion, edge_type: As in
            :class:`~diffmm_geo.tasks.DiffMMTask`. They need to be the same on
            all ranks. A batch is split over the ranks.
        ranks (Ranks, optional): The processes, from
            :func:`~diffmm_geo.training.distributed.joined_ranks`. If not given,
            this process trains alone. (default: :obj:`None`)
        shard_parameters (bool, optional): Whether each rank holds only its
            share of the model's weights. (default: :obj:`False`)

    Raises:
        ValueError: If the settings ask for CUDA graphs or for batches of
            neighbors.
    """

    def __init__(
        self,
        data: HeteroData,
        config: DiffMMConfig | None = None,
        *args: Any,
        ranks: Ranks | None = None,
        shard_parameters: bool = False,
        **kwargs: Any,
    ) -> None:
        check_type('shard_parameters', shard_parameters, bool)
        config = DiffMMConfig.of(config)
        check_equal(
            'cuda_graphs',
            config.cuda_graphs,
            False,
            'graphs cannot exchange gradients with other ranks',
        )
        check_equal(
            'batching',
            config.batching,
            'full',
            'sparse gradients are not summed over ranks',
        )
        ranks = ranks or Ranks()
        where = {'device': ranks.device, 'ranks': ranks}
        super().__init__(data, config, *args, **where, **kwargs)
        # The same already, unless modules were given.
        for module in (self.model, self.diffusion):
            for x in module.state_dict().values():
                ranks.broadcast_(x)
        if shard_parameters and ranks.size > 1:
            # Takes a while to be imported.
            from .shard_parameters import shard_parameters as shard

            shard(self.model, ranks, ['loss'])
            self.task.reset_optimizers()
