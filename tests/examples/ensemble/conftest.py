import pytest
import torch

U, I = 12, 10


@pytest.fixture
def interactions(random_edges):
    r"""Interactions with duplicates, and as a dense matrix in double precision.
    The last user and the last item have none.
    """
    edge_index = random_edges(U, I, 45)
    dense = torch.zeros(U, I, dtype=torch.double)
    dense[edge_index[0], edge_index[1]] = 1.0
    return torch.cat([edge_index, edge_index[:, :7]], dim=1), dense
