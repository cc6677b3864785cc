r"""Wrong values of the kinds that the public functions take."""

import math

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

# Small sizes, some of which are valid.
SIZES = [0, -1, 1, 2, 3, 7]
BIG = [2**31, 2**63 - 1, 2**63, 10**30, -(2**63) - 1]
DTYPES = [
    *[torch.float, torch.double, torch.half, torch.bfloat16],
    *[torch.bool, torch.int8, torch.uint8, torch.int32, torch.long],
    *[torch.complex64],
]
# Values of other types.
OTHERS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [
            *['', 'x', 'image', b'x', [], (), {}, [1], ['x'], {'x': 1}, {1}],
            *[object(), Ellipsis, torch.nn.Linear(1, 1), math.nan, math.inf],
            *[-math.inf, 1j, ['image', 'image'], ('a', 'b', 'c'), [None]],
            *['x' * 10_000, {'image': None}, {None: None}, [[]], range(3)],
        ]
    ),
    st.sampled_from([torch.zeros(()), torch.zeros(0), torch.zeros(2, 3)]),
)
# No large numbers that are valid, such as 10^9 items of a model.
NUMBERS = st.one_of(
    st.sampled_from([*SIZES, *BIG]),
    st.floats(-10, 10),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e-300, 1e300]),
)


def variants(valid):
    r"""Values of the type of a valid one, or nearly so. Some are valid."""
    if isinstance(valid, Tensor):
        return tensors(valid)
    if isinstance(valid, (int, float)) and not isinstance(valid, bool):
        return NUMBERS
    if isinstance(valid, dict) and valid:
        return dicts(valid)
    if isinstance(valid, (list, tuple)) and valid:
        return lists(valid)
    if isinstance(valid, HeteroData):
        return graphs(valid)
    return OTHERS


@st.composite
def tensors(draw, valid):
    x = valid.detach().clone()
    for _ in range(draw(st.integers(1, 2))):
        how = draw(
            st.sampled_from(
                [
                    *['dtype', 'device', 'size', 'dim', 'value', 'strided'],
                    *['empty', 'grad'],
                ]
            )
        )
        if how == 'dtype':
            x = x.detach().to(draw(st.sampled_from(DTYPES)))
        elif how == 'device':
            x = x.to('meta')
        elif how == 'size' and x.dim() > 0:
            dim = draw(st.integers(0, x.dim() - 1))
            size = draw(st.sampled_from([0, 1, 2, 9]))
            index = torch.arange(size, device=x.device) % max(x.size(dim), 1)
            if x.size(dim) > 0:
                x = x.index_select(dim, index)
        elif how == 'dim':
            x = draw(
                st.sampled_from(
                    [x.unsqueeze(0), x.unsqueeze(-1), x.reshape(-1), x.sum()]
                )
            )
        elif how == 'value' and x.numel() > 0 and x.device.type != 'meta':
            values = [-1, 0, 5, 100, 2**31 - 1]
            if x.is_floating_point():
                values = [math.nan, math.inf, -math.inf, 1e30, -0.0]
            elif x.dtype == torch.long:
                values += [2**63 - 1, -(2**63)]
            elif x.dtype != torch.int32:
                values = [0, 1]
            x = x.clone(memory_format=torch.contiguous_format)
            place = draw(st.integers(0, x.numel() - 1))
            x.view(-1)[place] = draw(st.sampled_from(values))
        elif how == 'strided':
            x = torch.stack([x, x], dim=-1)[..., 0]
            if x.dim() == 2 and draw(st.booleans()):
                x = x.t().contiguous().t()
        elif how == 'empty':
            x = x.new_empty(draw(st.sampled_from([(0,), (2, 0), (0, 3)])))
        elif how == 'grad' and x.is_floating_point():
            x = x.detach().requires_grad_()
    return x


@st.composite
def dicts(draw, valid):
    key = draw(st.sampled_from(sorted(valid, key=str)))
    out = dict(valid)
    how = draw(st.sampled_from(['drop', 'value', 'value', 'add', 'key']))
    if how == 'drop':
        del out[key]
    elif how == 'value':
        out[key] = draw(st.one_of(variants(valid[key]), OTHERS))
    elif how == 'add':
        out[draw(st.sampled_from(['x', 1, None, ('a', 'b')]))] = valid[key]
    else:
        out[draw(st.sampled_from(['x', '', 1, None]))] = out.pop(key)
    return out


@st.composite
def lists(draw, valid):
    out = list(valid)
    place = draw(st.integers(0, len(out) - 1))
    how = draw(st.sampled_from(['drop', 'value', 'repeat']))
    if how == 'drop':
        del out[place]
    elif how == 'value':
        out[place] = draw(st.one_of(variants(out[place]), NUMBERS, OTHERS))
    else:
        out.append(out[place])
    return type(valid)(out)


@st.composite
def graphs(draw, valid):
    data = valid.clone()
    how = draw(st.sampled_from(['value', 'value', 'drop', 'sizes', 'none']))
    store = draw(st.sampled_from(data.stores))
    if how == 'none' or not len(store):
        return HeteroData()
    key = draw(st.sampled_from(sorted(store.keys())))
    if how == 'value':
        store[key] = draw(st.one_of(variants(store[key]), OTHERS))
    elif how == 'drop':
        del store[key]
    elif store in data.node_stores:
        store.num_nodes = draw(st.sampled_from([0, 1, 3, 100, None]))
    return data
