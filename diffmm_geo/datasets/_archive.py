import shutil
import zipfile
import zlib
from collections.abc import Callable

from diffmm_geo.utils.atomic import atomic_path


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
        try:
            # Reading to the end also verifies the CRC.
            with zipfile.ZipFile(archive) as z:
                name = _find(z.namelist(), member)
                with z.open(name) as source, open(temporary, 'wb') as target:
                    shutil.copyfileobj(source, target)
        except KeyError as error:
            raise ValueError(
                f"'{archive}': expected a member '{member}', got none"
            ) from error
        except (
            EOFError,
            NotImplementedError,  # Unknown compression.
            RuntimeError,  # Encrypted.
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise ValueError(
                f"'{archive}': expected a readable zip archive, got: {error}"
            ) from error
        if check is not None:
            check(temporary)


def _find(names: list[str], member: str) -> str:
    if member in names:
        return member
    # macOS stores attributes of a file under the same name in a folder.
    for name in names:
        if name.endswith(f'/{member}') and not name.startswith('__MACOSX/'):
            return name
    raise KeyError(member)
