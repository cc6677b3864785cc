r"""Argument checks. Errors name the argument, what it needs and its value."""

import operator
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar('T')

MAX_COUNT = 2**31 - 1  # Some indices take 32 bits.
MAX_NUMBER = 3.4028234663852886e38  # In single precision.
MAX_SEED = 2**32 - 1  # In NumPy.


def _error(name: str, needed: str, got: object) -> ValueError:
    return ValueError(f"'{name}' needs {needed} (got {got})")


def check_choice(name: str, value: T, choices: Collection[T]) -> T:
    r"""One of the given names."""
    if not isinstance(value, str) or value not in choices:
        raise _error(name, f'to be one of {list(choices)}', repr(value))
    return value


def check_bool(name: str, value: Any) -> bool:
    r"""True or false."""
    if not isinstance(value, bool):
        raise _error(name, 'to be True or False', describe(value))
    return value


def check_equal(name: str, value: Any, needed: Any, reason: str) -> None:
    r"""The only possible value, for a reason."""
    if value != needed:
        raise _error(name, f'to be {needed!r}, as {reason}', repr(value))


def check_int(
    name: str, value: Any, minimum: int = 1, maximum: int = MAX_COUNT
) -> int:
    r"""An integer from :obj:`minimum` to :obj:`maximum`."""
    number = as_int(value)
    if number is None or number < minimum:
        got = describe(value) if number is None else number
        raise _error(name, f'to be an integer >= {minimum}', got)
    # In a traced graph, this would bound dynamic sizes.
    if not torch.compiler.is_compiling() and number > maximum:
        got = number if number < 2**63 else f'one of {number.bit_length()} bits'
        raise _error(name, f'to be an integer <= {maximum}', got)
    return number


def as_int(value: Any) -> int | None:
    r"""An integer of Python or of another library, such as NumPy, as the
    former. :obj:`None` for anything else, including booleans.
    """
    if type(value) is int or isinstance(value, torch.SymInt):
        return cast(int, value)
    dtype = getattr(value, 'dtype', None)
    if isinstance(value, bool) or dtype == torch.bool:
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # The latter for tensors on 'meta'.
        return None


def check_k(k: Any, num_items: int, name: str = 'k') -> int:
    r"""A positive number of at most :obj:`num_items` items."""
    number = check_int(name, k)
    if number > num_items:
        needed = f'to be at most the number of items {num_items}'
        raise _error(name, needed, number)
    return number


def check_number(
    name: str,
    value: Any,
    low: float = float('-inf'),
    high: float = float('inf'),
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    r"""A finite number in an interval."""
    number = float('nan')
    if isinstance(value, Real) and not isinstance(value, bool):
        # Larger integers cannot multiply tensors.
        if not isinstance(value, int) or value.bit_length() < 64:
            number = float(value)
    inside = (low < number if low_open else low <= number) and (
        number < high if high_open else number <= high
    )
    if not inside or abs(number) > MAX_NUMBER:
        left, right = '(' if low_open else '[', ')' if high_open else ']'
        needed = f'to be a finite number in {left}{low}, {high}{right}'
        raise _error(name, needed, describe(value))
    return number


def check_device(device: Any, available: bool = True) -> torch.device:
    r"""A valid device, by default an available one."""
    needed, got = 'to be a device', describe(device)
    try:
        out = torch.device(device)
        if available:
            needed, got = 'to be an available device', repr(device)
            torch.empty(0, device=out)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise _error('device', needed, f'{got}: {reason}') from None
    return out


def check_same_device(name: str, x: Any, device: torch.device | None) -> None:
    r"""A tensor or graph on the given device."""
    if device is not None and x.device != device:
        needed = f"to be on the device '{device}'"
        raise _error(name, needed, f"one on '{x.device}'")


def check_edge_type(edge_type: Any) -> tuple[str, str, str]:
    r"""A tuple (source, relation, target) between two node types."""
    is_triple = isinstance(edge_type, (tuple, list)) and len(edge_type) == 3
    if not is_triple or not all(isinstance(part, str) for part in edge_type):
        needed = 'to be a tuple of three strings, (source, relation, target)'
        raise _error('edge_type', needed, repr(edge_type))
    if edge_type[0] == edge_type[2]:
        needed = 'to connect two different node types'
        raise _error('edge_type', needed, repr(edge_type))
    return edge_type[0], edge_type[1], edge_type[2]


def check_modalities(
    modalities: Any, argument: str = 'modalities'
) -> list[str]:
    r"""A non-empty list of distinct names."""
    is_text = isinstance(modalities, (str, Tensor))
    is_list = isinstance(modalities, Collection) and not is_text
    out = list(modalities) if is_list else []
    if not out or not all(isinstance(name, str) and name for name in out):
        raise _error(argument, 'to be a list of names', describe(modalities))
    if len(set(out)) != len(out):
        raise _error(argument, 'distinct names', repr(out))
    return out


def check_index(
    name: str,
    index: Any,
    num_nodes: int | None = None,
    device: torch.device | None = None,
    *,
    read: bool = True,
) -> Tensor:
    r"""A vector of node indices in :obj:`[0, num_nodes)`. :obj:`read=False`
    skips the range, to avoid synchronizing a GPU.
    """
    index = as_tensor(index)
    if not _is_dense(index) or index.dim() != 1:
        raise _error(name, 'to be a vector of node indices', describe(index))
    ranges = [(index, 'indices', num_nodes)]
    read = read and num_nodes is not None
    return _indices(name, index, device, ranges if read else [])


def check_edge_index(
    name: str,
    edge_index: Any,
    num_users: int | None = None,
    num_items: int | None = None,
    device: torch.device | None = None,
    *,
    read: bool = True,
) -> Tensor:
    r"""An :obj:`edge_index`; see :func:`check_index` for :obj:`read`."""
    edge_index = as_tensor(edge_index)
    is_matrix = _is_dense(edge_index) and edge_index.dim() == 2
    if not is_matrix or edge_index.size(0) != 2:
        needed = 'to be a tensor of shape [2, num_edges]'
        raise _error(name, needed, describe(edge_index))
    user = edge_index[0], 'source indices', num_users
    item = edge_index[1], 'target indices', num_items
    return _indices(name, edge_index, device, [user, item] if read else [])


def _indices(
    name: str,
    index: Tensor,
    device: torch.device | None,
    ranges: Sequence[tuple[Tensor, str, int | None]],
) -> Tensor:
    r"""Indices on a device, in the given ranges of their parts."""
    if index.dtype not in (torch.long, torch.int):
        raise _error(name, 'to be of type torch.long', index.dtype)
    check_same_device(name, index, device)
    if device is None:  # Later code moves or reads the values.
        check_values(name, index)
    for part, kind, size in ranges:
        if part.numel() == 0 or not has_values(part):
            continue
        low, high = (int(v) for v in part.aminmax())
        if low < 0 or (size is not None and high >= size):
            needed = f'{kind} in [0, {"num_nodes" if size is None else size})'
            raise _error(name, needed, f'values in [{low}, {high}]')
    return index.long()


def check_steps(
    t: Any,
    num_rows: int,
    num_steps: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    r"""A diffusion step for each row, or one for all rows."""
    # A vector of one step is no integer.
    if getattr(t, 'ndim', 0) == 0 and as_int(t) is not None:
        maximum = MAX_COUNT if num_steps is None else num_steps - 1
        return torch.tensor([check_int('t', t, 0, maximum)], device=device)
    steps = check_index('t', t, num_steps, device)
    if steps.numel() not in (1, num_rows):
        needed = f'a step for each of the {num_rows} rows, or one for all'
        raise _error('t', needed, steps.numel())
    return steps


def check_unweighted(edge_type: tuple[str, str, str], store: Any) -> None:
    r"""A store of edges without weights, where they would have no effect."""
    for name in ('edge_weight', 'edge_attr'):
        if store.get(name) is not None:
            needed = f"edges of type {edge_type} without '{name}', which has "
            needed += 'no effect here. Delete it to go on without weights'
            raise _error('data', needed, describe(store.get(name)))


def check_triples(
    edge_label_index: Any,
    neg_item: Any,
    size: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""A batch of users, positive items and negative items."""
    (num_users, num_items), read = size, device.type != 'cuda'
    name = 'edge_label_index'
    user, positive = check_edge_index(
        name, edge_label_index, num_users, num_items, device, read=read
    )
    negative = check_index('neg_item', neg_item, num_items, device, read=read)
    if negative.numel() == 0 or negative.size() != positive.size():
        needed = f'an item for each of the {positive.numel()} interactions in '
        needed += f"'{name}', at least one"
        raise _error('neg_item', needed, negative.numel())
    return user, positive, negative


def check_matrix(
    name: str,
    x: Any,
    num_rows: int | None = None,
    num_channels: int | None = None,
    finite: bool = True,
    *,
    leading: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""A floating point matrix :obj:`[num_rows, num_channels]`, or
    :obj:`[..., num_rows, num_channels]` if :obj:`leading=True`. With
    :obj:`like`, it needs the type and device of that tensor, but not finite
    values.
    """
    if like is not None:
        finite, dtype, device = False, like.dtype, like.device
    if not _is_dense(x) or x.dim() < 2 or (x.dim() > 2 and not leading):
        raise _error(name, 'to be a floating point matrix', describe(x))
    if not x.is_floating_point():
        raise _error(name, 'to be of floating point type', x.dtype)
    check_same_device(name, x, device)
    # Autocast converts another type.
    if dtype is not None and x.dtype != dtype:
        if x.is_meta or not torch.is_autocast_enabled(x.device.type):
            raise _error(name, f'to be of type {dtype}', x.dtype)
    sizes = (-2, num_rows, 'rows'), (-1, num_channels, 'channels')
    for dim, number, unit in sizes:
        if number is not None and x.size(dim) != number:
            raise _error(name, f'{number} {unit}', f'shape {list(x.size())}')
    if finite:
        if device is None:
            check_values(name, x)
        check_finite(name, x)
    return x


def check_matrix_like(
    name: str, x: Any, like: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    r"""A matrix of the shape and on the device of another."""
    rows, cols = like.size()
    options: dict[str, Any] = {'dtype': dtype, 'device': like.device}
    return check_matrix(name, x, rows, cols, False, **options)


def check_vector(
    name: str,
    x: Any,
    size: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    r"""A floating point vector :obj:`[size]`."""
    if not _is_dense(x) or x.dim() != 1 or not x.is_floating_point():
        raise _error(name, 'to be a floating point vector', describe(x))
    if size is not None and x.numel() != size:
        raise _error(name, f'{size} elements', x.numel())
    check_same_device(name, x, device)
    return x


def check_mask(name: str, x: Any, size: int) -> Tensor:
    r"""A vector :obj:`[size]` of flags."""
    if not _is_dense(x) or x.dim() != 1 or x.dtype != torch.bool:
        raise _error(name, 'to be a vector of type torch.bool', describe(x))
    if x.numel() != size:
        raise _error(name, f'{size} elements', x.numel())
    return check_values(name, x)


def check_trainable(name: str, module: torch.nn.Module) -> None:
    r"""A module with parameters that an optimizer can train."""
    if any(p.dtype == torch.half for p in module.parameters()):
        raise ValueError(
            f"'{name}' needs parameters of a type other than torch.float16, "
            f'whose range is too small for gradients and their squares. Use '
            f'autocast to multiply in half precision'
        )


def check_size(name: str, size: Any) -> tuple[int, int]:
    r"""A pair of counts."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise _error(name, 'to be a pair of integers', describe(size))
    return check_int(name, size[0], 0), check_int(name, size[1], 0)


def check_type(name: str, value: Any, cls: type) -> None:
    r"""An instance of a class."""
    if not isinstance(value, cls):
        raise _error(name, f'to be a {cls.__name__}', describe(value))


def check_finite(name: str, x: Tensor) -> None:
    r"""A tensor without NaN and infinity."""
    if has_values(x) and not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        got = f'{bad} NaN or infinite of {x.numel()} values'
        raise _error(name, 'to be finite', got)


def check_keys(name: str, mapping: Any, keys: Collection[Any]) -> None:
    r"""A dictionary with at least the given keys."""
    if not isinstance(mapping, Mapping):
        needed = f'to be a dictionary with keys {list(keys)}'
        raise _error(name, needed, describe(mapping))
    missing = [key for key in keys if key not in mapping]
    if missing:
        raise _error(name, f'an entry for {missing}', list(mapping))


def check_values(name: str, x: Tensor) -> Tensor:
    r"""A tensor that holds values."""
    if not torch.compiler.is_compiling() and x.is_meta:
        raise _error(name, 'to hold values', f"{describe(x)} on 'meta'")
    return x


def has_values(x: Tensor) -> bool:
    r"""Whether a tensor has values. Reading them breaks a compiled graph."""
    return x.device.type != 'meta' and not torch.compiler.is_compiling()


def as_tensor(x: Any) -> Any:
    r"""The tensor of an :class:`~torch_geometric.EdgeIndex` or
    :class:`~torch_geometric.Index`, without its caches. Kernels do not take
    these subclasses.
    """
    return x.as_tensor() if hasattr(x, 'as_tensor') else x


def _is_dense(x: Any) -> TypeGuard[Tensor]:
    return isinstance(x, Tensor) and x.layout == torch.strided


def describe(value: Any) -> str:
    r"""A short description of a value in a message."""
    if isinstance(value, Tensor):
        layout = '' if _is_dense(value) else f', {value.layout}'
        return f'a tensor of shape {list(value.size())}, {value.dtype}{layout}'
    return f'{type(value).__name__}: {value!r}'[:80]
