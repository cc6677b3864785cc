from __future__ import annotations

from typing import Any

from torch_geometric.data import HeteroData

from diffmm_geo.tasks.diffmm_config import DiffMMConfig
from diffmm_geo.training.diffmm_trainer import DiffMMTrainer
from diffmm_geo.utils.checks import check_equal, check_type
from diffmm_geo.utils.ranks import Ranks


class DistributedDiffMMTrainer(DiffMMTrainer):
    r"""The training of :class:`~diffmm_geo.training.DiffMMTrainer` in several
    processes. Each denoiser is trained on one rank, from its own seed, so that
    more ranks than modalities do not speed this up. Ranks split each batch of
    interactions, generation and evaluation. Up to rounding, the losses do not
    depend on the number of ranks.

    The first rank calls callbacks and writes checkpoints. All ranks read the
    checkpoints from a shared folder. A run may resume on any number of ranks,
    sharded or not. All ranks need to call each method.

    Args:
        data, config, modalities, model, diffusion, edge_type: As in
            :class:`~diffmm_geo.tasks.DiffMMTask`, the same on all ranks.
        ranks (Ranks, optional): The processes, from
            :func:`~diffmm_geo.training.distributed.joined_ranks`. If not given,
            this process trains alone. (default: :obj:`None`)
        shard_parameters (bool, optional): Whether each rank holds only its
            share of the model's weights, gradients and Adam's moments, by
            PyTorch's :func:`~torch.distributed.fsdp.fully_shard`. Each step
            gathers the weights. The weights of the best epoch stay in the
            memory of the host. (default: :obj:`False`)

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
