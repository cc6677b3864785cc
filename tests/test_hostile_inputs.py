r"""Calls every public class and function with one argument of a wrong type,
shape, range or device. The outcome is a result, or a `ValueError` that names
the argument.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.evaluation import (
    evaluate,
    evaluate_cold,
    generation_metrics,
)
from diffmm_geo.nn import (
    CrossModalContrastiveLoss,
    Denoiser,
    DiffMM,
    GaussianDiffusion,
    ItemGraphLightGCN,
    MaskedDiffusion,
    MaskedInteractionDiffusion,
    ModalityDiffusion,
    MultiModalLightGCNConv,
    info_nce,
    sampled_softmax_loss,
)
from diffmm_geo.nn.conv import BipartiteLGConv
from diffmm_geo.ops import (
    available_backends,
    backend,
    default_backend,
    propagate,
    spmm,
    topk_items,
)
from diffmm_geo.recommender import Recommender
from diffmm_geo.sparse import CSR, BipartiteAdj, SparseMatrix
from diffmm_geo.training import (
    DiffMMConfig,
    DiffMMTrainer,
    ItemGraphConfig,
    ItemGraphTrainer,
    LightGCNConfig,
    LightGCNTrainer,
    NegativeSampler,
    TrainingConfig,
    save_run,
)
from diffmm_geo.transforms import ItemKNNGraph, ModalityAwareGraphDiffusion
from diffmm_geo.utils.finite import NonFiniteLossError

NUM_USERS, NUM_ITEMS, DIM = 5, 4, 3
OBSERVED = ('user', 'interacts', 'item')
GENERATED = ('user', 'denoised_image', 'item')


class Case:
    r"""A callable with valid arguments."""

    def __init__(self, call: Callable[..., Any], **args: Any) -> None:
        self.call, self.args = call, args


def edges() -> Tensor:
    return torch.tensor([[0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 0, 1]])


def held_out() -> Tensor:
    return torch.tensor([[0, 1, 2, 3, 4], [2, 3, 0, 1, 2]])


def graph() -> HeteroData:
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = NUM_USERS, NUM_ITEMS
    data['item'].x_image = torch.randn(NUM_ITEMS, 2)
    data['item'].x_text = torch.randn(NUM_ITEMS, 3)
    store = data[OBSERVED]
    store.edge_index = edges()
    store.val_edge_label_index = held_out()
    store.test_edge_label_index = held_out()
    return data


def lists() -> CSR:
    return CSR.from_edge_index(edges(), (NUM_USERS, NUM_ITEMS))


def matrix() -> SparseMatrix:
    user, item = edges()
    return SparseMatrix.from_coo(
        user, item, torch.rand(6), (NUM_USERS, NUM_ITEMS)
    )


def model() -> DiffMM:
    return DiffMM(NUM_USERS, NUM_ITEMS, {'image': 2, 'text': 3}, DIM)


def item_graph_model() -> ItemGraphLightGCN:
    return ItemGraphLightGCN(NUM_USERS, NUM_ITEMS, {'image': 2, 'text': 3}, DIM)


def item_graphs() -> dict[Any, Tensor]:
    return dict.fromkeys(
        item_graph_model().edge_types, torch.tensor([[0, 1, 2], [1, 2, 3]])
    )


def diffusion() -> ModalityDiffusion:
    return ModalityDiffusion(
        NUM_ITEMS, ['image', 'text'], hidden_channels=6, time_channels=4
    )


SMALL = {'num_epochs': 1, 'batch_size': 3, 'k': 2, 'embedding_dim': 2}


def fit(data: Any = None, **kwargs: Any) -> None:
    transform = ModalityAwareGraphDiffusion(diffusion())
    kwargs = {'num_epochs': 1, 'embedding_dim': 2, **kwargs}
    transform.fit(graph() if data is None else data, **kwargs)


def train(config: Any = None, **kwargs: Any) -> None:
    data = kwargs.pop('data', None)
    config = config or DiffMMConfig(**SMALL, hidden_channels=6)
    DiffMMTrainer(graph() if data is None else data, config, **kwargs).fit()


def with_data(store: Any, key: str, call: Callable[..., Any]) -> Case:
    r"""A call with one attribute of the graph as its argument."""

    def inner(**kwargs: Any) -> Any:
        data = graph()
        data[store][key] = kwargs[key]
        return call(data=data)

    return Case(inner, **{key: graph()[store][key]})


def on_model(method: str) -> Callable[..., Any]:
    return lambda **kwargs: getattr(model(), method)(**kwargs)


def on_diffusion(method: str) -> Callable[..., Any]:
    return lambda **kwargs: getattr(diffusion(), method)(**kwargs)


def features() -> dict[str, Tensor]:
    data = graph()['item']
    return {'image': data.x_image, 'text': data.x_text}


def graphs() -> dict[Any, Tensor]:
    return {
        OBSERVED: edges(),
        GENERATED: held_out(),
        ('user', 'denoised_text', 'item'): held_out(),
    }


def views() -> dict[str, Tensor]:
    return {'image': torch.randn(5, DIM), 'text': torch.randn(5, DIM)}


def cases() -> dict[str, Callable[[], Case]]:
    r"""What makes each case, as calls may change what they hold."""
    user_x, item_x = torch.randn(NUM_USERS, DIM), torch.randn(NUM_ITEMS, DIM)
    x_start = torch.zeros(2, NUM_ITEMS)
    adj = BipartiteAdj.from_adj(edges(), (NUM_USERS, NUM_ITEMS), prepare=True)
    emb = {'item_emb': item_x, 'modality_emb': item_x.clone()}
    embs = {m: item_x.clone() for m in ('image', 'text')}
    step = {'x_start': x_start, 't': torch.tensor([0, 3])}
    both = {'feature_dict': features(), 'edge_index_dict': graphs()}
    denoiser = {
        'num_items': 4,
        'hidden_channels': 6,
        'time_channels': 4,
        'dropout': 0.5,
    }
    return {
        'info_nce': lambda: Case(
            info_nce,
            anchor=torch.randn(5, DIM),
            candidate=torch.randn(5, DIM),
            index=torch.tensor([0, 4]),
            temperature=0.5,
            num_candidates=3,
        ),
        'spmm': lambda: Case(spmm, matrix=matrix(), x=item_x, backend='naive'),
        'propagate': lambda: Case(
            propagate,
            adj=adj,
            x_user=user_x,
            x_item=item_x,
            backend='torch_csr',
        ),
        'topk_items': lambda: Case(
            topk_items,
            query=user_x,
            item=item_x,
            k=2,
            bias=torch.randn(NUM_ITEMS),
            exclude=lists(),
        ),
        'SparseMatrix': lambda: Case(
            SparseMatrix.from_coo,
            row=edges()[0],
            col=edges()[1],
            value=torch.rand(6),
            size=(NUM_USERS, NUM_ITEMS),
        ),
        'BipartiteAdj': lambda: Case(
            lambda **kwargs: BipartiteAdj.from_adj(**kwargs).dropout(0.5),
            adj=edges(),
            size=(NUM_USERS, NUM_ITEMS),
            prepare=True,
        ),
        'BipartiteAdj.dropout': lambda: Case(adj.dropout, keep_rate=0.5),
        'backend': lambda: Case(
            lambda backend_name: backend(backend_name).__enter__(),
            backend_name='naive',
        ),
        'default_backend': lambda: Case(default_backend, device='cpu'),
        'available_backends': lambda: Case(available_backends, device='cpu'),
        'BipartiteLGConv': lambda: Case(
            lambda x_user, x_item, edge_index: BipartiteLGConv()(
                (x_user, x_item), edge_index
            ),
            x_user=user_x,
            x_item=item_x,
            edge_index=edges(),
        ),
        'MultiModalLightGCNConv.__init__': lambda: Case(
            MultiModalLightGCNConv,
            modalities=['image', 'text'],
            generated_weight=0.2,
            edge_type=OBSERVED,
        ),
        'MultiModalLightGCNConv': lambda: Case(
            MultiModalLightGCNConv(['image', 'text']),
            x_dict={'user': user_x, 'item': item_x},
            edge_index_dict=graphs(),
            modality_dict=embs,
        ),
        'CrossModalContrastiveLoss.__init__': lambda: Case(
            CrossModalContrastiveLoss,
            temperature=0.5,
            anchor='main',
            num_candidates=3,
        ),
        'CrossModalContrastiveLoss': lambda: Case(
            CrossModalContrastiveLoss(anchor='main'),
            views=views(),
            index=torch.tensor([0, 4]),
            main=torch.randn(5, DIM),
        ),
        'sampled_softmax_loss': lambda: Case(
            sampled_softmax_loss,
            user_emb=torch.randn(2, DIM),
            pos_emb=torch.randn(2, DIM),
            neg_emb=torch.randn(5, DIM),
            temperature=0.5,
        ),
        'GaussianDiffusion.__init__': lambda: Case(
            GaussianDiffusion,
            num_steps=5,
            noise_scale=0.1,
            noise_min=1e-4,
            noise_max=0.02,
        ),
        'GaussianDiffusion.q_sample': lambda: Case(
            GaussianDiffusion().q_sample,
            **step,
            noise=torch.randn(2, NUM_ITEMS),
        ),
        'GaussianDiffusion.posterior_step': lambda: Case(
            GaussianDiffusion().posterior_step,
            x_start=x_start,
            x_t=x_start.clone(),
            t=2,
            noise=x_start.clone(),
        ),
        'MaskedDiffusion.__init__': lambda: Case(MaskedDiffusion, num_steps=5),
        'MaskedDiffusion.q_sample': lambda: Case(
            MaskedDiffusion().q_sample,
            **step,
            noise=torch.rand(2, NUM_ITEMS),
        ),
        'MaskedInteractionDiffusion.loss': lambda: Case(
            MaskedInteractionDiffusion(NUM_ITEMS, hidden_channels=6).loss,
            **step,
            **emb,
            msi_weight=0.1,
            noise=torch.rand(2, NUM_ITEMS),
        ),
        'MaskedInteractionDiffusion.sample': lambda: Case(
            MaskedInteractionDiffusion(NUM_ITEMS, hidden_channels=6).sample,
            x_start=x_start,
            sampling_steps=2,
            sampling_noise=False,
        ),
        'Denoiser.__init__': lambda: Case(Denoiser, **denoiser),
        'Denoiser': lambda: Case(
            Denoiser(**denoiser), x_t=x_start, t=torch.tensor([0, 3])
        ),
        'Denoiser.load_official_state_dict': lambda: Case(
            Denoiser(**denoiser).load_official_state_dict, state_dict={}
        ),
        'ModalityDiffusion.__init__': lambda: Case(
            ModalityDiffusion,
            num_items=4,
            modalities=['image'],
            diffusion=GaussianDiffusion(),
            hidden_channels=6,
        ),
        'ModalityDiffusion.loss': lambda: Case(
            on_diffusion('loss'),
            modality='image',
            **step,
            **emb,
            msi_weight=0.1,
            noise=torch.randn(2, NUM_ITEMS),
        ),
        'ModalityDiffusion.batch_loss': lambda: Case(
            on_diffusion('batch_loss'),
            modality='image',
            interactions=lists(),
            **emb,
            msi_weight=0.1,
            form='sampled',
            t=torch.tensor([0, 1, 2, 3, 4]),
        ),
        'ModalityDiffusion.sample': lambda: Case(
            on_diffusion('sample'),
            modality='image',
            x_start=x_start,
            sampling_steps=2,
            sampling_noise=True,
        ),
        'ModalityDiffusion.sample_edges': lambda: Case(
            on_diffusion('sample_edges'),
            modality='image',
            edge_index=edges(),
            num_users=NUM_USERS,
            num_edges_per_user=2,
            sampling_steps=0,
            sampling_noise=False,
            candidates=torch.tensor([0, 2, 3]),
            exclude_observed=True,
        ),
        'DiffMM.__init__': lambda: Case(
            DiffMM,
            num_users=NUM_USERS,
            num_items=NUM_ITEMS,
            modality_channels={'image': 2},
            embedding_dim=DIM,
            num_layers=1,
            generated_weight=0.2,
            residual_weight=0.5,
            projection='linear',
            edge_type=OBSERVED,
        ),
        'DiffMM.forward': lambda: Case(on_model('forward'), **both),
        'DiffMM.modality_views': lambda: Case(
            on_model('modality_views'), **both
        ),
        'DiffMM.loss': lambda: Case(
            on_model('loss'),
            **both,
            edge_label_index=edges(),
            neg_item=torch.tensor([2, 3, 3, 0, 1, 2]),
            reg_weight=0.1,
            ssl_weight=0.1,
            temperature=0.5,
            anchor='main',
            num_candidates=3,
        ),
        'DiffMM.adjacency_dict': lambda: Case(
            on_model('adjacency_dict'), edge_index_dict=graphs()
        ),
        'DiffMM.projected': lambda: Case(
            on_model('projected'), feature_dict=features()
        ),
        'DiffMM.recommend': lambda: Case(
            on_model('recommend'),
            **both,
            k=2,
            exclude_edge_index=edges(),
            user_index=torch.tensor([0, 2]),
        ),
        'DiffMM.load_official_state_dict': lambda: Case(
            on_model('load_official_state_dict'), state_dict={}
        ),
        'ItemGraphLightGCN.__init__': lambda: Case(
            ItemGraphLightGCN,
            num_users=NUM_USERS,
            num_items=NUM_ITEMS,
            modality_channels={'image': 2},
            embedding_dim=DIM,
            num_layers=1,
            edge_type=OBSERVED,
        ),
        'ItemGraphLightGCN.fit_features': lambda: Case(
            item_graph_model().fit_features, feature_dict=features()
        ),
        'ItemGraphLightGCN.loss': lambda: Case(
            item_graph_model().loss,
            feature_dict=features(),
            edge_index_dict=item_graphs(),
            edge_label_index=edges(),
            neg_item=torch.tensor([2, 3, 3, 0, 1, 2]),
            objective='softmax',
            reg_weight=0.1,
            ssl_weight=0.1,
            temperature=0.5,
            num_candidates=3,
        ),
        'ItemKNNGraph.__init__': lambda: Case(
            ItemKNNGraph, k=2, modalities=['image'], item_type='item'
        ),
        'ItemKNNGraph': lambda: Case(ItemKNNGraph(k=2), data=graph()),
        'ItemKNNGraph(x_image)': partial(
            with_data, 'item', 'x_image', ItemKNNGraph(k=2)
        ),
        'ModalityAwareGraphDiffusion.__init__': lambda: Case(
            ModalityAwareGraphDiffusion,
            diffusion=diffusion(),
            edge_type=OBSERVED,
            num_edges_per_user=1,
            sampling_steps=0,
        ),
        'ModalityAwareGraphDiffusion.fit': lambda: Case(
            fit,
            item_emb=item_x,
            modality_emb_dict=embs,
            embedding_dim=DIM,
            num_epochs=1,
            batch_size=2,
            lr=1e-3,
            msi_weight=0.1,
        ),
        'ModalityAwareGraphDiffusion': lambda: Case(
            ModalityAwareGraphDiffusion(diffusion()), data=graph()
        ),
        'ModalityAwareGraphDiffusion(edge_index)': lambda: with_data(
            OBSERVED, 'edge_index', fit
        ),
        'ModalityAwareGraphDiffusion(x_image)': lambda: with_data(
            'item', 'x_image', fit
        ),
        'TrainingConfig': lambda: Case(
            TrainingConfig, **vars(TrainingConfig())
        ),
        'DiffMMConfig': lambda: Case(DiffMMConfig, **vars(DiffMMConfig())),
        'LightGCNConfig': lambda: Case(
            LightGCNConfig, **vars(LightGCNConfig())
        ),
        'DiffMMTrainer': lambda: Case(
            train,
            data=graph(),
            modalities=['image'],
            edge_type=OBSERVED,
            device='cpu',
        ),
        **{
            f'DiffMMTrainer({key})': partial(with_data, store, key, train)
            for store, key in [
                *[(OBSERVED, 'edge_index'), (OBSERVED, 'val_edge_label_index')],
                *[(OBSERVED, 'test_edge_label_index'), ('item', 'x_image')],
            ]
        },
        'LightGCNTrainer': lambda: Case(
            lambda data: LightGCNTrainer(data, LightGCNConfig(**SMALL)).fit(),
            data=graph(),
        ),
        'ItemGraphConfig': lambda: Case(
            ItemGraphConfig, **vars(ItemGraphConfig())
        ),
        'ItemGraphTrainer': lambda: Case(
            lambda **kwargs: ItemGraphTrainer(
                config=ItemGraphConfig(**SMALL), **kwargs
            ).fit(),
            data=graph(),
            modalities=['image'],
        ),
        'NegativeSampler.__init__': lambda: Case(
            NegativeSampler, edge_index=edges(), num_users=5, num_items=4
        ),
        'NegativeSampler.sample': lambda: Case(
            NegativeSampler(edges(), 5, 4).sample, users=torch.tensor([0, 4])
        ),
        'Recommender.__init__': lambda: Case(
            Recommender,
            user_emb=user_x,
            item_emb=item_x,
            exclude_edge_index=edges(),
            index=None,
        ),
        'Recommender.recommend': lambda: Case(
            Recommender(user_x, item_x, edges()).recommend,
            user_index=torch.tensor([0, 2]),
            k=2,
        ),
        'evaluate_cold': lambda: Case(
            evaluate_cold,
            user_emb=user_x,
            item_emb=item_x,
            edge_label_index=held_out(),
            edge_index=edges()[:, :2],
            k=2,
            candidates='cold',
        ),
        'generation_metrics': lambda: Case(
            generation_metrics,
            generated=held_out(),
            observed=edges(),
            edge_label_index=held_out(),
            num_items=NUM_ITEMS,
        ),
        'DiffMM.fit_standardization': lambda: Case(
            DiffMM(
                *(NUM_USERS, NUM_ITEMS, {'image': 2, 'text': 3}, DIM),
                standardize=True,
            ).fit_standardization,
            feature_dict=features(),
        ),
        'DiffMM.with_new_items': lambda: Case(
            on_model('with_new_items'),
            num_new_items=2,
            item_emb=torch.randn(2, DIM),
        ),
        'DiffMM.without_item_emb': lambda: Case(
            on_model('without_item_emb'), item_index=torch.tensor([0, 2])
        ),
        'save_run': lambda: Case(
            lambda trainer: save_run(trainer, '.'), trainer=1
        ),
        'evaluate of scores': lambda: Case(
            # Answers for any user.
            partial(evaluate, lambda u: torch.ones(u.numel(), NUM_ITEMS)),
            edge_label_index=held_out(),
            exclude_edge_index=edges(),
            k=2,
        ),
        'evaluate': lambda: Case(
            evaluate,
            user_emb=user_x,
            item_emb=item_x,
            edge_label_index=held_out(),
            exclude_edge_index=edges(),
            k=2,
        ),
    }


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


@st.composite
def hostile_tensors(draw, valid: Tensor):
    r"""Variants of a tensor, valid or not."""
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


def hostile(valid: Any) -> st.SearchStrategy[Any]:
    if isinstance(valid, Tensor):
        return st.one_of(hostile_tensors(valid), OTHERS)
    if isinstance(valid, (int, float)) and not isinstance(valid, bool):
        return st.one_of(NUMBERS, OTHERS)
    if isinstance(valid, dict) and valid:
        return st.one_of(hostile_dicts(valid), OTHERS)
    if isinstance(valid, (list, tuple)) and not isinstance(valid[0], Tensor):
        return st.one_of(hostile_lists(valid), OTHERS)
    if isinstance(valid, HeteroData):
        return st.one_of(hostile_graphs(), OTHERS)
    return OTHERS


@st.composite
def hostile_dicts(draw, valid: dict[Any, Any]):
    key = draw(st.sampled_from(sorted(valid, key=str)))
    out = dict(valid)
    how = draw(st.sampled_from(['drop', 'value', 'value', 'add', 'key']))
    if how == 'drop':
        del out[key]
    elif how == 'value':
        out[key] = draw(hostile(valid[key]))
    elif how == 'add':
        out[draw(st.sampled_from(['x', 1, None, ('a', 'b')]))] = valid[key]
    else:
        out[draw(st.sampled_from(['x', '', 1, None]))] = out.pop(key)
    return out


@st.composite
def hostile_lists(draw, valid: Any):
    out = list(valid)
    place = draw(st.integers(0, len(out) - 1))
    how = draw(st.sampled_from(['drop', 'value', 'repeat']))
    if how == 'drop':
        del out[place]
    elif how == 'value':
        out[place] = draw(st.one_of(NUMBERS, OTHERS))
    else:
        out.append(out[place])
    return type(valid)(out)


@st.composite
def hostile_graphs(draw):
    data = graph()
    how = draw(
        st.sampled_from(['no edges', 'no item', 'no features', 'sizes', 'none'])
    )
    if how == 'no edges':
        del data[OBSERVED]
    elif how == 'no item':
        del data['item']
    elif how == 'no features':
        del data['item'].x_image
        del data['item'].x_text
    elif how == 'sizes':
        node = draw(st.sampled_from(['user', 'item']))
        data[node].num_nodes = draw(st.sampled_from([0, 1, 3, 100, None]))
    else:
        data = HeteroData()
    return data


# The name in the error of an argument that is only wrong in combination:
# another argument, or the object whose attribute it is.
ALSO_NAMED = {
    'BipartiteAdj': ['edge_index'],
    'DiffMMTrainer': ['edge_index', 'x_image', "'k'"],
    'LightGCNTrainer': ['edge_index', "'k'"],
    'ItemGraphTrainer': ['edge_index', "'k'", 'modalities', 'x_image'],
    'ItemKNNGraph': ['x_image', 'modalities'],
    'ItemKNNGraph(x_image)': ['modalities'],
    'ModalityAwareGraphDiffusion': ['edge_index'],
    'ModalityAwareGraphDiffusion(edge_index)': ["'data'"],
    'ModalityAwareGraphDiffusion(x_image)': ['modalities'],
    'DiffMMTrainer(x_image)': ['x_'],
}


def text_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return f'{value.dtype} {list(value.shape)} {value.device} {value}'
    return repr(value)


@pytest.mark.parametrize('name', cases())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(data=st.data())
def test_result_or_value_error(name, data):
    torch.manual_seed(0)
    case = cases()[name]()
    argument = data.draw(st.sampled_from(sorted(case.args)))
    value = data.draw(hostile(case.args[argument]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            case.call(**{**case.args, argument: value})
    except ValueError as error:
        # If shapes depend on each other, the error may name another argument.
        named = [argument.removesuffix('_name'), *case.args]
        named += ALSO_NAMED.get(name, [])
        assert any(n in str(error) for n in named), str(error)
    except NonFiniteLossError:
        pass  # Names the step and the term.
    except Exception as error:
        raise AssertionError(
            f'{name}({argument}={text_of(value)[:300]}) raised '
            f'{type(error).__name__}: {error}'
        ) from error
