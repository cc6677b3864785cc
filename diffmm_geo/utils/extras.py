r"""Optional dependencies."""

from importlib import import_module


def check_package(package: str, extra: str, user: str) -> None:
    r"""Imports a package that :obj:`user` needs and an extra has.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise ImportError(
            f'{user} needs the package {package}: '
            f"pip install 'diffmm_geo[{extra}]'"
        ) from error
