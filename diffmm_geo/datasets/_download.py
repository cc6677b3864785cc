r"""Downloads and archives. Files appear once they are complete and checked."""

import os.path as osp
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.expecting import expecting

TIMEOUT = 60.0  # In seconds.

Check = Callable[[str], object]


def download(
    url: str, path: str, sha256: str | None = None, check: Check | None = None
) -> None:
    r"""Downloads a file. :obj:`check` gets the path of a temporary file."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"downloading '{url}' needs pooch: pip install pooch"
        ) from error

    folder, name = osp.split(path)
    with atomic_path(path) as temporary:
        try:
            pooch.retrieve(
                url,
                known_hash=sha256 and f'sha256:{sha256}',
                fname=osp.basename(temporary),
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
            )
            if check is not None:
                check(temporary)
        except OSError as error:
            raise ConnectionError(
                f"Could not download '{name}' from '{url}' ({error}). "
                f"Download it by hand and put it in '{folder}'."
            ) from error
        except ValueError as error:
            raise ValueError(f"Bad download from '{url}': {error}") from error


def pip_download(requirement: str, filename: str, folder: str) -> str:
    r"""Downloads a wheel with the user's :obj:`pip` and returns its path."""
    options = ['--no-deps', '--only-binary', ':all:', '--dest', folder]
    command = [sys.executable, '-m', 'pip', 'download', *options, requirement]
    out = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    path = osp.join(folder, filename)
    if out.returncode != 0 or not osp.exists(path):
        reason = ' '.join(out.stdout.strip().splitlines()[-2:])
        raise ConnectionError(f"'{' '.join(command)}' failed: {reason}")
    return path


def extract_member(
    archive: str, member: str, path: str, check: Check | None = None
) -> None:
    r"""Extracts a file from any folder of a zip archive."""
    with atomic_path(path) as temporary:
        with (
            expecting(archive, f"a zip archive with a member '{member}'") as f,
            zipfile.ZipFile(f) as z,
            open(temporary, 'wb') as target,
        ):
            # macOS adds attributes of the same name in another folder.
            name = next(
                name
                for name in z.namelist()
                if f'/{name}'.endswith(f'/{member}')
                and not name.startswith('__MACOSX/')
            )
            # Reading to the end verifies the CRC.
            with z.open(name) as source:
                shutil.copyfileobj(source, target)
        if check is not None:
            check(temporary)


def check_archive(path: str) -> None:
    r"""Checks that a file is a complete zip archive."""
    with expecting(path, 'a whole zip archive') as f, zipfile.ZipFile(f) as z:
        broken = z.testzip()
        if broken is not None:
            raise ValueError(f"'{broken}' is damaged")
