import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Tensor]:
    r"""The state of PyTorch's random numbers on CPU and on a device.

    Args:
        device (torch.device): The device.
    """
    state = {'cpu': torch.get_rng_state()}
    if device.type == 'cuda':
        state['cuda'] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    r"""Restores what :func:`random_state` returned.

    Args:
        device (torch.device): The device.
        state (dict[str, torch.Tensor]): The state.
    """
    torch.set_rng_state(state['cpu'].cpu())
    if device.type == 'cuda' and 'cuda' in state:
        torch.cuda.set_rng_state(state['cuda'].cpu(), device)
