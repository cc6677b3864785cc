import hashlib


def sha256sum(path: str) -> str:
    r"""Returns the SHA-256 of a file in hexadecimal digits.

    Args:
        path (str): The file.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: str, expected: str, source: str) -> None:
    r"""Raises a :class:`ValueError` if a file is not the published one.

    Args:
        path (str): The file.
        expected (str): Its published SHA-256.
        source (str): Where the file came from, for the message.
    """
    actual = sha256sum(path)
    if actual != expected:
        raise ValueError(
            f"'{source}' is not the published file: expected SHA-256 "
            f'{expected}, got {actual}'
        )
