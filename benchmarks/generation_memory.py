r"""Time and peak memory of generating edges on a random graph.

python benchmarks/generation_memory.py
"""

import argparse
import resource
import time

import torch

from diffmm_geo.nn import ModalityDiffusion


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--users', type=int, default=200_000)
    parser.add_argument('--items', type=int, default=100_000)
    parser.add_argument('--edges', type=int, default=2_000_000)
    parser.add_argument('--hidden', type=int, default=64)
    args = parser.parse_args()

    edge_index = torch.stack(
        [
            torch.randint(args.users, (args.edges,)),
            torch.randint(args.items, (args.edges,)),
        ]
    )
    diffusion = ModalityDiffusion(
        args.items, ['image'], hidden_channels=args.hidden
    )
    start = time.perf_counter()
    out = diffusion.sample_edges('image', edge_index, args.users)
    seconds = time.perf_counter() - start
    # Kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f'{out.size(1)} edges in {seconds:.1f} s, peak {peak:.2f} GB')


if __name__ == '__main__':
    main()
