r"""DiffMM as reusable PyTorch Geometric components."""

import importlib
import pkgutil
from types import ModuleType

__version__ = '0.1.0'

__all__ = ['__version__']

_SUBMODULES = [module.name for module in pkgutil.iter_modules(__path__)]


def __getattr__(name: str) -> ModuleType:
    # Submodules are imported when they are used, as they import PyTorch.
    if name in _SUBMODULES:
        return importlib.import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])
