from __future__ import annotations

import subprocess
from threading import Thread

import torch

# It hangs where the driver does.
TIMEOUT = 10.0


def query(device: torch.device, fields: str) -> dict[str, str]:
    """What `nvidia-smi` tells of a GPU. It is empty where there is none."""
    if device.type != 'cuda':
        return {}
    p = torch.cuda.get_device_properties(device)
    command = ['nvidia-smi', f'--query-gpu={fields}', '--format=csv,noheader']
    try:
        out = subprocess.run(
            [*command, f'--id=GPU-{p.uuid}'],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {'error': str(error)}
    return dict(zip(fields.split(','), out.strip().split(', ')))


class Samples:
    """Queries a GPU again and again, while it works."""

    def __init__(self, device: torch.device, fields: str) -> None:
        self.found: list[dict[str, str]] = []
        self.device, self.fields = device, fields
        if query(device, fields):
            Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while 'error' not in (found := query(self.device, self.fields)):
            self.found.append(found)

    def take(self) -> list[dict[str, str]]:
        """The samples since the last call."""
        out, self.found = self.found, []
        return out
