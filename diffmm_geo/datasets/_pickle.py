import copyreg
import io
import pickle
from typing import Any

import numpy as np
from scipy import sparse


def dump_pattern(edges: np.ndarray, shape: tuple[int, int]) -> bytes:
    r"""Pickles a :obj:`scipy.sparse.coo_matrix` of ones that all versions of
    NumPy and SciPy since 1.8 can load. Plain pickles name modules of the
    versions that wrote them.
    """
    value = np.ones(edges.shape[1], np.float32)
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(
        sparse.coo_matrix((value, edges.astype(np.int32)), shape)
    )
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, sparse.coo_matrix):
            # The state of SciPy before 1.13, which later versions also read.
            state = {
                '_shape': tuple(int(size) for size in obj.shape),
                'maxprint': 50,
                'row': obj.row,
                'col': obj.col,
                'data': obj.data,
                'has_canonical_format': False,
            }
            return copyreg.__newobj__, (sparse.coo_matrix,), state  # type: ignore[attr-defined]
        if isinstance(obj, np.ndarray):
            # Avoids the name `numpy._core`, new in NumPy 2.
            return np.ndarray, ((0,),), obj.__reduce__()[2]
        return NotImplemented
