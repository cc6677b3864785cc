import hashlib


def sha256sum(path: str) -> str:
    r"""The SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
