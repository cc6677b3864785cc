import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pickletools import genops, markobject
from typing import Any, BinaryIO

import torch

# The unpickler of `torch.load` is safe from being told to call something, not
# from a key of a dictionary that is a tuple in a tuple in a tuple, whose hash
# overflows the stack of the process, or one of twice the same tuple of twice
# the same tuple, whose hash never ends.
MAX_DEPTH, MAX_PARTS = 100, 2**20
FLAT = (0, 1)
NAME = (0, 2)  # A class or function.
# What it says of an error, it searches in time that grows with the square.
MAX_TEXT = 2**14
_HASHED_BY_PARTS = frozenset(
    ['FROZENSET', 'REDUCE', 'BUILD', 'INST', 'OBJ', 'NEWOBJ', 'NEWOBJ_EX']
)


def load_torch_file(path: str, device: torch.device | str = 'cpu') -> Any:
    r"""Reads what :func:`torch.save` wrote, if it is plain: tensors,
    containers, and classes that are registered as safe with PyTorch. It never
    executes what the file says, and a file that is truncated or of another
    kind is refused.

    Args:
        path (str): The file.
        device (torch.device or str, optional): The device to load tensors to.
            (default: :obj:`'cpu'`)

    Raises:
        ValueError: If the file is not such a file.
    """
    with expecting(
        path,
        'a whole file of tensors written by torch.save',
        'one that cannot be read as such',
    ) as f:
        _check_archive(f)
        f.seek(0)
        out = torch.load(f, map_location=device, weights_only=True)
        _check_tensors(out)
        return out


@contextmanager
def expecting(path: str, expected: str, got: str) -> Iterator[BinaryIO]:
    r"""Opens a file to read. Garbage makes the readers of a format raise nearly
    anything, errors of the system included (they are led to places that the
    file does not have): it all says that the file is not what is expected.

    Args:
        path (str): The file.
        expected (str): What it should be.
        got (str): What it is if it cannot be read.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it cannot be read.
    """
    with open(path, 'rb') as f:
        try:
            yield f
        except Exception as error:
            raise ValueError(
                f"'{path}': expected {expected}, got {got} ({reason_of(error)})"
            ) from error


def reason_of(error: Exception) -> str:
    r"""What is wrong with a file, in a line and without the advice of
    :func:`torch.load` to execute what it says.

    Args:
        error (Exception): What reading it has raised.
    """
    text, _, _ = str(error).partition('\n\nCheck the documentation')
    text = text.rpartition('WeightsUnpickler error: ')[2].strip()
    if text.startswith('Weights only load failed'):
        text = text.rpartition('\n\n')[2]
    line, _, _ = text.partition('\n')
    return f'{type(error).__name__}: {line}'[:300]


def _check_tensors(value: Any) -> None:
    # A few bytes, said to be repeated, are a tensor of any size.
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for x in value:
            _check_tensors(x)
    elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
        storage = value.untyped_storage()
        if value.numel() * value.element_size() > storage.nbytes():
            raise ValueError('a tensor of more elements than there are')


def check_torch_archive(path: str) -> None:
    r"""Raises if a file is not a whole one of :func:`torch.save`, or one that
    must not be given to :func:`torch.load`. PyTorch itself compares no
    checksums.

    Args:
        path (str): The file.

    Raises:
        ValueError: If it is not.
    """
    with open(path, 'rb') as f:
        try:
            _check_archive(f)
        except Exception as error:  # Garbage raises nearly anything.
            raise ValueError(
                f"'{path}' is damaged: {reason_of(error)}"
            ) from error


def _check_archive(f: BinaryIO) -> None:
    with zipfile.ZipFile(f) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(set(names)) != len(names):
            raise ValueError('a name comes twice')
        # Compressed, a small file may hold any amount of data.
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError('compressed data')
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"'{broken}' is not what was written")
        for name in names:
            if name.endswith('data.pkl'):
                check_pickle(archive.read(name))


def check_pickle(content: bytes) -> None:
    r"""Refuses a pickle with a tuple that cannot be hashed, or with a name
    that cannot be spoken of, in reasonable time and space. It is scanned, not
    executed.

    Args:
        content (bytes): The pickle.

    Raises:
        ValueError: If tuples are nested too deep, texts are too long, or what
            is called is not a name.
    """
    # How deep are, and of how many parts, all that is on the stack and in the
    # memo. What is not hashed by its parts is flat.
    stack: list[tuple[int, int] | None] = []
    memo: dict[int, tuple[int, int]] = {}

    def pop() -> tuple[int, int]:
        top = stack.pop() if stack else None
        return top or FLAT  # None is a mark.

    arg: Any
    for opcode, arg, _ in genops(content):
        name, before, popped = opcode.name, opcode.stack_before, []
        if markobject in before:
            while stack and stack[-1] is not None:
                popped.append(pop())
            pop()
            before = before[: before.index(markobject)]
        popped += [pop() for _ in before]
        if isinstance(arg, str) and len(arg) > MAX_TEXT:
            raise ValueError(f'a text of {len(arg)} characters')
        if arg == 'builtins bytearray':  # Of any size.
            raise ValueError(f"'{arg}' is not allowed")
        if name == 'REDUCE' and popped[-1] is not NAME:
            raise ValueError('a call of what is no name')

        result = NAME if name.endswith('GLOBAL') else FLAT
        if name.startswith('TUPLE') or name in _HASHED_BY_PARTS:
            depths, counts = zip(FLAT, *popped)
            result = 1 + max(depths), sum(counts)
            if result[0] > MAX_DEPTH or result[1] > MAX_PARTS:
                raise ValueError('tuples are nested too deep')
        elif name in ('MEMOIZE', 'DUP'):
            result = popped[0]
        elif name in ('GET', 'BINGET', 'LONG_BINGET'):
            result = memo.get(arg, FLAT)

        if name == 'MARK':
            stack.append(None)
        else:
            stack.extend([result] * len(opcode.stack_after))
        if name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE') and stack:
            memo[len(memo) if arg is None else arg] = stack[-1] or FLAT
