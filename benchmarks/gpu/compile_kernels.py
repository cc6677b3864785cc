"""Compiles every Triton kernel for GPUs that are not at hand, and writes the
registers, spills and shared memory of each:
`python -m benchmarks.gpu.compile_kernels --output FOLDER`.

The launchers themselves run, forward and backward, on tensors of the CPU. Each
launch compiles its kernel instead, with the arguments that a GPU would get.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from diffmm_geo.ops import propagate, spmm
from diffmm_geo.ops.info_nce import info_nce
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.utils.atomic import atomic_path

DTYPES = {
    'fp64': torch.double,
    'fp32': torch.float,
    'fp16': torch.half,
    'bf16': torch.bfloat16,
}
ARCHS = (80, 90, 100)
# The alignment of rows in bytes, and the bits of indices.
FORMS = ((16, 32), (8, 32), (4, 32), (16, 64))
# Of tensor cores, by architecture.
PRODUCTS = ('mma.sync', 'wgmma.mma_async', 'tcgen05.mma')

# Of both lists, a quick run takes the first case for most architectures, and
# the next six for Hopper. Rows of 17 channels are padded to 20 on large graphs.
GRAPH_CASES = [('fp32', 64), ('fp32', 17), ('fp32', 20)]
GRAPH_CASES += [('bf16', 64), ('bf16', 50)]
# For aligned rows and 32-bit indices only.
MORE_GRAPH_CASES = [('fp64', 64), ('fp32', 192), ('fp32', 300)]
LOSS_CASES = [('bf16', n, 'ieee') for n in (64, 256, 304)]
LOSS_CASES += [('fp32', 256, 'ieee'), ('fp32', 64, 'tf32x3')]
LOSS_CASES += [('fp32', n, 'tf32') for n in (128, 512, 64, 256)]
LOSS_CASES += [(x, 64, 'ieee') for x in ('fp16', 'fp32', 'fp64')]
LOSS_CASES += [('bf16', 1, 'ieee')]
# Batch, nodes and temperature: multiples of 16 or not, whose sums need splits
# or not, and a low temperature.
LOSS_SIZES = ((640, 640, 0.5), (70, 150, 0.001))


def features(size: tuple[int, ...], dtype: torch.dtype, align: int) -> Tensor:
    """Contiguous features that start at a multiple of `align` bytes only."""
    shift = align // dtype.itemsize if align < 16 else 0
    numel = torch.Size(size).numel()
    x = torch.zeros(numel + shift, dtype=dtype)[shift:].view(size)
    assert x.data_ptr() % 16 == align % 16
    return x.requires_grad_()


def graph(is_split: bool) -> BipartiteAdj:
    """A graph with a very active user and a popular item, if `is_split`."""
    user = item = torch.arange(61)
    if is_split:
        zero = torch.zeros_like(user)
        user, item = torch.cat([user, zero]), torch.cat([zero, item])
    edge_index = torch.stack([user, item])
    return BipartiteAdj.from_adj(edge_index, (61, 61), prepare=True)


def run_graph(
    dtype: str, channels: int, align: int, splits: tuple[bool, ...]
) -> None:
    """Launches the kernels of `spmm` and `propagate`."""
    kind = DTYPES[dtype]
    grad, *x = (features((61, channels), kind, align) for _ in range(3))
    for is_split in splits:
        adj = graph(is_split)
        # Products of half precision read values in single precision.
        sums = torch.promote_types(kind, torch.float)
        value = adj.to_user.value.to(sums).requires_grad_()
        trained = adj.to_user.set_value(value)
        for matrix in (trained, adj.to_user.set_value(None)):
            out = spmm(matrix, x[0], backend='triton')
            out.backward(grad)
        plain = replace(adj, user_scale=None, item_scale=None).to(dtype=sums)
        for form in (adj, plain):
            outs = propagate(form, *x, backend='triton')
            torch.autograd.backward(outs, [grad, grad])
        # The gradient of one side.
        out, _ = propagate(adj, x[0], x[1].detach(), backend='triton')
        out.backward(grad)


def run_loss(
    dtype: str,
    channels: int,
    precision: str,
    sizes: tuple[tuple[int, int, float], ...],
) -> None:
    """Launches the kernels of `info_nce`."""
    kind = DTYPES[dtype]
    is_half = kind.itemsize == 2  # By autocast.
    for batch, nodes, temperature in sizes:
        anchor, candidate = (
            features((nodes, channels), torch.float if is_half else kind, 16)
            for _ in range(2)
        )
        with torch.autocast('cpu', kind, enabled=is_half):
            loss = info_nce(
                anchor, candidate, torch.arange(batch), temperature,
                backend='triton', precision=precision,
            )  # fmt: skip
        loss.backward()


class Compiler:
    """Compiles launches for an architecture.

    Args:
        arch (int): The compute capability, times ten.
    """

    def __init__(self, arch: int) -> None:
        self.arch = arch
        self.target = GPUTarget('cuda', arch, 32)
        self.found: dict[str, dict[str, Any]] = {}
        self.case: dict[str, Any] = {}

    def get_current_device(self) -> int:
        return self.arch  # Kernels are kept by device.

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target

    def launch(
        self,
        run: Callable[..., Any],
        kernel: JITFunction,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        compiled = run(kernel, *args, **{**kwargs, 'warmup': True})
        values = dict(zip(kernel.arg_names, args)) | kwargs
        flags = [k for k, v in values.items() if v is True and k.isupper()]
        if values.get('PRECISION', 'ieee') != 'ieee':
            flags.append(values['PRECISION'])
        absent = [
            '-' + k.removesuffix('_ptr') for k, v in values.items() if v is None
        ]
        record = dict(
            kernel=kernel.__name__.strip('_'),
            arch=self.arch,
            **self.case,
            variant=' '.join([*flags, *absent]).lower(),
        )
        record |= resources(compiled)
        self.found.setdefault(json.dumps(record), record)

    def compile(
        self, launch: Callable[[], None], bits: int, **case: Any
    ) -> None:
        self.case = case
        with self.replace_launches(), patch_indices(bits):
            launch()

    @contextmanager
    def replace_launches(self) -> Iterator[None]:
        """Compiles instead of launching, whatever the device."""
        run, driver = JITFunction.run, triton.runtime.driver
        with ExitStack() as stack:
            for module in ('spmm.triton', 'info_nce.views'):
                name = f'diffmm_geo.ops.{module}.runs_triton'
                stack.enter_context(mock.patch(name, lambda device: True))
            stack.enter_context(
                mock.patch.object(
                    JITFunction,
                    'run',
                    lambda *args, **kwargs: self.launch(run, *args, **kwargs),
                )
            )
            stack.enter_context(mock.patch.object(driver, '_active', self))
            yield


@contextmanager
def patch_indices(bits: int) -> Iterator[None]:
    """Keeps indices of 64 bits, as for more than 2^31 entries."""
    with ExitStack() as stack:
        if bits == 64:
            for module in ('sparse.csr', 'ops.spmm.row_segments'):
                name = f'diffmm_geo.{module}.narrow'
                stack.enter_context(mock.patch(name, lambda x, end: x))
        yield


def resources(compiled: Any) -> dict[str, Any]:
    """The registers of a thread, the bytes of its stack, which holds spills,
    the shared memory of a block, and instructions.
    """
    key = compiled.hash
    if key not in CACHE:
        CACHE[key] = _resources(compiled)
    return CACHE[key]


CACHE: dict[str, dict[str, Any]] = {}


def _resources(compiled: Any) -> dict[str, Any]:
    tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'kernel.cubin'
        path.write_bytes(compiled.asm['cubin'])
        out = subprocess.run(
            [tool, '--dump-resource-usage', path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    usage = dict(re.findall(r'(REG|STACK|LOCAL):(\d+)', out))
    ptx = compiled.asm['ptx']
    loads = re.findall(r'\bld\.global\S*', ptx)
    wide = [x for x in loads if re.search(r'\.v(?:4\.b32|2\.b64)', x)]
    return dict(
        registers=int(usage['REG']),
        spilled=int(usage['STACK']) + int(usage['LOCAL']),
        shared=compiled.metadata.shared,
        warps=compiled.metadata.num_warps,
        loads=len(loads),
        wide_loads=len(wide),
        atomics=len(re.findall(r'\b(?:atom|red)\.global', ptx)),
        products=' '.join(x for x in PRODUCTS if x in ptx),
    )


def compile_for(arch: int, quick: bool) -> list[dict[str, Any]]:
    """The resources of all kernels: with `quick`, those of aligned rows and
    32-bit indices, and of one size or the other in turns.
    """
    compiler = Compiler(arch)
    if quick:
        cases = slice(1, 7) if arch == 90 else slice(1)
    else:
        cases = slice(None)
    for align, index in FORMS[: 1 if quick else None]:
        is_first = (align, index) == FORMS[0]
        graphs = GRAPH_CASES + (MORE_GRAPH_CASES if is_first else [])
        for n, (dtype, channels) in enumerate(graphs[cases]):
            splits = (n % 2 == 0,) if quick else (True, False)
            compiler.compile(
                partial(run_graph, dtype, channels, align, splits), index,
                dtype=dtype, channels=channels, align=align, index=index,
            )  # fmt: skip
    # Normalized rows are always aligned, and anchors have 64 bits.
    for n, (dtype, channels, precision) in enumerate(LOSS_CASES[cases]):
        sizes = LOSS_SIZES[n % 2 :][:1] if quick else LOSS_SIZES
        compiler.compile(
            partial(run_loss, dtype, channels, precision, sizes), 32,
            dtype=dtype, channels=channels, align=16, index=64,
        )  # fmt: skip
    return [*compiler.found.values()]


COLUMNS = ('kernel', 'arch', 'dtype', 'channels', 'align', 'index')
COLUMNS += ('registers', 'spilled', 'shared', 'warps', 'loads', 'wide_loads')
COLUMNS += ('products', 'variant')


def table(records: list[dict[str, Any]]) -> str:
    """The records as text, one per line."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for r in records:
        key = tuple(r[c] for c in COLUMNS if c != 'align')
        found.setdefault(key, []).append(r['align'])
    place = COLUMNS.index('align')
    # Triton compiles the same kernel for all rows that are not aligned.
    rows = [
        (*key[:place], ' '.join(map(str, sorted(aligns))), *key[place:])
        for key, aligns in sorted(found.items(), key=str)
    ]
    rows = [COLUMNS, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(COLUMNS))]
    lines = [
        '  '.join(x.ljust(w) for x, w in zip(row, widths)).rstrip()
        for row in rows
    ]
    spills = sum(row[COLUMNS.index('spilled')] != '0' for row in rows[1:])
    head = [
        'python -m benchmarks.gpu.compile_kernels',
        f'Triton {triton.__version__}: {len(rows) - 1} kernels, {spills} with '
        f'spills',
        'registers and spilled bytes per thread, shared bytes and warps per '
        'block, loads in the code',
    ]
    return '\n'.join([*head, '', *lines, ''])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--arch', type=int, nargs='+', default=[*ARCHS])
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--output', type=Path, required=True)
    args = parser.parse_args()
    if os.environ.get('TRITON_INTERPRET') == '1':
        parser.error('kernels compile without TRITON_INTERPRET=1 only')
    args.output.mkdir(parents=True, exist_ok=True)
    for arch in args.arch:
        records = compile_for(arch, args.quick)
        text = json.dumps(records) if args.json else table(records)
        kind = 'json' if args.json else 'txt'
        with atomic_path(args.output / f'sm_{arch}.{kind}') as path:
            Path(path).write_text(text)


if __name__ == '__main__':
    main()
