r"""The diffusion process of each likelihood, and what trains it."""

from typing import Any

from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.nn.diffusion.masked_interaction_diffusion import (
    MaskedInteractionDiffusion,
)
from diffmm_geo.utils.checks import check_type

Process = GaussianDiffusion | MaskedDiffusion
PROCESSES: dict[str, type[Process]] = {
    'gaussian': GaussianDiffusion,
    'multinomial': MaskedDiffusion,
}


def part_class(process: Process) -> type[InteractionDiffusion]:
    r"""The class of the diffusion of one modality with a process."""
    if isinstance(process, MaskedDiffusion):
        return MaskedInteractionDiffusion
    check_type('diffusion', process, GaussianDiffusion)
    return InteractionDiffusion


def process_config(process: Process) -> dict[str, Any]:
    r"""The likelihood and the arguments of a process, to be saved."""
    kind = type(process)
    for likelihood, known in PROCESSES.items():
        if kind is known:
            return {'likelihood': likelihood, 'diffusion': process.config}
    names = [known.__name__ for known in PROCESSES.values()]
    raise ValueError(
        f"'diffusion' needs to be one of {names} to be saved "
        f'(got {kind.__name__})'
    )
