r"""DiffMM on graphs that no denoiser generates, to compare with."""

from dataclasses import dataclass

import torch

from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.training import DiffMMConfig
from diffmm_geo.utils.checks import check_choice, check_k


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(DiffMMConfig):
    r"""Adds where the graphs of modalities come from: `'diffusion'`, `'random'`
    (as many interactions, drawn uniformly in each epoch) or `'observed'` (the
    observed interactions).
    """

    generator: str = 'diffusion'

    def __post_init__(self):
        super().__post_init__()
        check_choice(
            'generator', self.generator, ('diffusion', 'random', 'observed')
        )


class GeneratorTask(DiffMMTask):
    r"""Trains no denoisers, and takes random or observed graphs."""

    num_denoiser_steps = 0

    def train_denoisers(self, on_step=None, users=None):
        return {}

    def generate(self, users=None):
        return {
            self.model.conv.generated_edge_type(m): self._edges()
            for m in self.model.modalities
        }

    def _edges(self):
        if self.config.generator == 'observed':
            return self.edge_index
        k = check_k(self.edges_per_user, self.num_items, 'num_edges_per_user')
        user = torch.arange(self.num_users, device=self.device)
        item = random_subsets(user, self.num_items, k).flatten()
        return torch.stack([user.repeat_interleave(k), item])

    def end_fit(self):
        pass


def random_subsets(row, num_items, k):
    r"""For each row, `k` distinct items, all subsets being equally likely, by
    Floyd's algorithm in all rows at once.
    """
    out = row.new_full((row.numel(), k), -1)
    for n, last in enumerate(range(num_items - k, num_items)):
        item = torch.randint(last + 1, row.shape, device=row.device)
        taken = (out == item[:, None]).any(dim=1)
        out[:, n] = item.masked_fill(taken, last)
    return out
