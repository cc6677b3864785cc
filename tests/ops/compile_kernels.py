r"""Compiles each kernel for Ampere, Hopper and Blackwell, without a GPU, and
prints its resources as JSON. It runs in its own process, since kernels that
were defined with `TRITON_INTERPRET=1` do not compile.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from diffmm_geo.ops.propagate import triton_kernels as propagate
from diffmm_geo.ops.spmm import triton_kernels as spmm
from diffmm_geo.ops.spmm.block_shape import block_shape

SIZE = {'fp64': 8, 'fp32': 4, 'bf16': 2, 'fp16': 2}
INDEX = re.compile('^(row|col)_ptr|start|length|target|split|_col_ptr')

VALUES = ('user_value_ptr', 'item_value_ptr')
LOOPS = ('user_loop_ptr', 'item_loop_ptr')
SCALES = ('user_scale_ptr', 'item_scale_ptr')
BUFFERS = ('user_buffer_ptr', 'item_buffer_ptr')

# Each with its omitted arguments.
KERNELS = {
    'spmm': (spmm.spmm_kernel, ('loop_ptr', 'x_dst_ptr')),
    'spmm_unweighted': (
        spmm.spmm_kernel,
        ('value_ptr', 'loop_ptr', 'x_dst_ptr'),
    ),
    'spmm_loops': (spmm.spmm_kernel, ()),
    'spmm_parts': (spmm.spmm_parts_kernel, ('loop_ptr', 'x_dst_ptr')),
    'propagate': (propagate.propagate_kernel, SCALES),
    'propagate_scaled': (propagate.propagate_kernel, VALUES + LOOPS),
    'propagate_whole': (propagate.propagate_kernel, SCALES + BUFFERS),
    'propagate_parts': (propagate.propagate_parts_kernel, SCALES),
    'propagate_parts_scaled': (propagate.propagate_parts_kernel, LOOPS),
    'sddmm': (spmm.sddmm_kernel, ()),
}
CASES = [('fp32', 64), ('fp32', 192), ('fp32', 300)]
CASES += [('bf16', 64), ('bf16', 50), ('fp64', 64)]
# All cases for Hopper, and one for each of the others.
TARGETS = [(90, *case) for case in CASES]
TARGETS += [(80, *CASES[0]), (100, *CASES[0])]


def compile_kernel(kernel, missing, arch, dtype, channels):
    size = SIZE[dtype]
    acc = 'fp64' if dtype == 'fp64' else 'fp32'
    names = kernel.arg_names
    if 'BLOCK_P' in names:
        shape = block_shape(channels, SIZE[acc], spmm.REDUCE_BYTES)
    elif 'BLOCK_E' in names:
        shape = block_shape(channels, size, spmm.SDDMM_BYTES)
    else:
        shape = block_shape(channels, size)
    constants = dict.fromkeys(missing)
    constants.update(
        NUM_CHANNELS=channels,
        ACC=tl.float64 if acc == 'fp64' else tl.float32,
        BLOCK_C=shape[1],
    )
    for name in ('BLOCK_S', 'BLOCK_P', 'BLOCK_E'):
        if name in names:
            constants[name] = shape[0]

    signature, attrs = {}, {}
    for n, name in enumerate(names):
        if name in constants:
            signature[name] = 'constexpr'
        elif not name.endswith('_ptr'):
            signature[name] = 'i32'
        else:
            attrs[(n,)] = [['tt.divisibility', 16]]
            sums = re.search('buffer|value|loop|scale', name)
            signature[name] = '*' + (acc if sums else dtype)
            if INDEX.search(name):
                signature[name] = '*i32'
            if 'BLOCK_E' in names and name == 'out_ptr':
                signature[name] = '*' + acc
    source = ASTSource(kernel, signature, constants, attrs)
    return triton.compile(source, target=GPUTarget('cuda', arch, 32))


def resources(cubin):
    r"""Registers per thread, and bytes of its stack, which holds spills."""
    tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'kernel.cubin'
        path.write_bytes(cubin)
        out = subprocess.run(
            [tool, '--dump-resource-usage', path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    usage = dict(re.findall(r'(REG|STACK|LOCAL|SHARED):(\d+)', out))
    return {key.lower(): int(value) for key, value in usage.items()}


def main():
    report = {}
    for arch, dtype, channels in TARGETS:
        for name, (kernel, missing) in KERNELS.items():
            out = compile_kernel(kernel, missing, arch, dtype, channels)
            ptx = out.asm['ptx']
            wide = re.findall(r'\bld\.global\S*\.v(?:4\.b32|2\.b64)', ptx)
            report[f'{name}/sm_{arch}/{dtype}/{channels}'] = {
                'wide_loads': len(wide),
                'atomics': len(re.findall(r'\b(?:atom|red)\.global', ptx)),
                **resources(out.asm['cubin']),
            }
    json.dump(report, sys.stdout, indent=1)


if __name__ == '__main__':
    main()
