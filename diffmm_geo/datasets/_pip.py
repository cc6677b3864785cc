import os
import os.path as osp
import subprocess
import sys


def pip_download(requirement: str, filename: str, folder: str) -> str:
    r"""Downloads a wheel with :obj:`pip` and returns its path.
    So indices, mirrors and proxies are those the user has configured.

    Args:
        requirement (str): The requirement, *e.g.*, :obj:`"name==1.0"`.
        filename (str): The name of the wheel's file.
        folder (str): The folder to write to.
    """
    if 'PYTEST_CURRENT_TEST' not in os.environ:
        print(f'Downloading {filename}', file=sys.stderr)

    options = ['--no-deps', '--only-binary', ':all:']
    command = [sys.executable, '-m', 'pip', 'download', *options, requirement]
    out = subprocess.run(
        [*command, '--dest', folder],
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
