import torch

from benchmarks.graphs import power_law
from diffmm_geo.ops import SparseMatrix

ROWS, COLS = 3001, 2003  # Odd: blocks are never full.


def matrix_of(row, col, size=(ROWS, COLS), weighted=True):
    generator = torch.Generator().manual_seed(1)
    value = torch.rand(row.numel(), generator=generator) if weighted else None
    return SparseMatrix.from_coo(row, col, value, size)


def power(is_large, weighted=True):
    r"""Degrees that follow a power law."""
    if is_large:
        return matrix_of(*power_law(ROWS, COLS, 60_000), weighted=weighted)
    return matrix_of(*power_law(61, 43, 500), (61, 43), weighted)


def empty_rows(is_large):
    r"""Most rows and columns have no entry."""
    row = torch.arange(0, ROWS, 700)
    return matrix_of(row, row // 2)


def no_entries(is_large):
    empty = torch.zeros(0, dtype=torch.long)
    return matrix_of(empty, empty)


def long_row(is_large):
    r"""One row of 10^6 entries between short ones."""
    entries = 10**6 if is_large else 3000
    row = torch.cat([torch.full((entries,), 5), torch.arange(20)])
    col = torch.arange(row.numel()) % (entries // 2)
    return matrix_of(row, col, (20, entries))


def unweighted(is_large):
    return power(is_large, weighted=False)


GRAPHS = {
    f.__name__: f for f in (power, empty_rows, no_entries, long_row, unweighted)
}
