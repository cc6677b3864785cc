import hashlib

import torch
from torch import Tensor


def sha256sum(path: str) -> str:
    r"""The SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def tensor_digest(x: Tensor) -> str:
    r"""A digest of the type, the size and the values of a tensor."""
    x = x.detach().cpu().contiguous()
    digest = hashlib.sha256(f'{x.dtype} {list(x.size())}'.encode())
    digest.update(x.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
