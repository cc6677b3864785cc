import zipfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from diffmm_geo.utils.atomic import atomic_path

# Others ask for as much memory as they please.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CHUNK_BYTES = 2**20


def extract_member(
    archive: str,
    member: str,
    path: str,
    check: Callable[[str], object] | None = None,
) -> None:
    r"""Extracts one file of a zip archive, which appears under its name only
    once it is complete and has passed its check.

    Args:
        archive (str): The path of the zip archive.
        member (str): The name of the file inside of the archive, whose
            folder there is free if it has none here.
        path (str): Where to write the file.
        check (callable, optional): Called with the path of the complete
            temporary file; raises if its content is bad.
            (default: :obj:`None`)
    """
    with atomic_path(path) as temporary:
        with open(archive, 'rb') as source, open(temporary, 'wb') as target:
            for chunk in _read(archive, source, member):
                target.write(chunk)
        if check is not None:
            check(temporary)


def check_archive(path: str) -> None:
    r"""Raises a :class:`ValueError` if a file is not a whole zip archive.

    Args:
        path (str): The path of the zip archive.
    """
    with open(path, 'rb') as source:
        try:
            with zipfile.ZipFile(source) as z:
                broken = z.testzip()
        except Exception as error:  # What is none raises nearly anything.
            raise ValueError(
                f"'{path}': expected a zip archive, got: {error}"
            ) from error
    if broken is not None:
        raise ValueError(f"'{path}': expected a whole '{broken}' in it")


def _read(archive: str, source: BinaryIO, member: str) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(source) as z:
            name = _find(z.namelist(), member)
            if name is None:
                raise ValueError('it has no such member')
            info = z.getinfo(name)
            if info.compress_type not in COMPRESSIONS:
                raise ValueError(f'compression {info.compress_type}')
            # Reading to the end also verifies the CRC.
            with z.open(info) as f:
                while chunk := f.read(CHUNK_BYTES):
                    yield chunk
    except Exception as error:  # What is none raises nearly anything.
        raise ValueError(
            f"'{archive}': expected a readable zip archive with a member "
            f"'{member}', got: {error}"
        ) from error


def _find(names: list[str], member: str) -> str | None:
    if member in names:
        return member
    # macOS stores attributes of a file under the same name in a folder.
    for name in names:
        if name.endswith(f'/{member}') and not name.startswith('__MACOSX/'):
            return name
    return None
