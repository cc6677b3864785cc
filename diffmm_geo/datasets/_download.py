import os
import os.path as osp
import shutil
import sys
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checksum import check_sha256

# Seconds to wait for a server that says nothing.
TIMEOUT = 60.0


def download(
    url: str,
    path: str,
    sha256: str | None = None,
    check: Callable[[str], object] | None = None,
) -> None:
    r"""Downloads a file, which appears under its name only once it is
    complete and has passed its checks.

    Args:
        url (str): The address.
        path (str): Where to write the file.
        sha256 (str, optional): The published SHA-256. (default: :obj:`None`)
        check (callable, optional): Called with the path of the complete
            temporary file; raises if its content is bad.
            (default: :obj:`None`)
    """
    if 'PYTEST_CURRENT_TEST' not in os.environ:
        print(f'Downloading {url}', file=sys.stderr)

    with atomic_path(path) as temporary:
        try:
            # Unlike PyG's `download_url`, this verifies certificates.
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                with open(temporary, 'wb') as f:
                    shutil.copyfileobj(response, f)
                length = response.headers.get('Content-Length')
            size = osp.getsize(temporary)
            # `http.client` does not report a connection that closes early.
            if length is not None and length != str(size):
                raise HTTPException(f'got {size} of {length} bytes')
        except (OSError, HTTPException) as error:
            raise ConnectionError(
                f"Could not download '{osp.basename(path)}' from '{url}' "
                f'({error}). Download it by hand and put it in '
                f"'{osp.dirname(path)}'."
            ) from error

        if sha256 is not None:
            check_sha256(temporary, sha256, source=url)
        if check is not None:
            try:
                check(temporary)
            except ValueError as error:
                raise ValueError(f"Bad download from '{url}': {error}") from (
                    error
                )
