r"""Calls every public class and function as the examples in docstrings do, with
one argument of a wrong type, shape, range or device. The outcome is a result,
or a `ValueError` that names the argument, in quotes.
"""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import tempfile
import typing
import warnings
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from itertools import count

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

import diffmm_geo
from diffmm_geo.utils.finite import NonFiniteLossError
from tests.hostile_values import OTHERS, variants

PUBLIC = {
    name: getattr(module, name)
    for info in pkgutil.iter_modules(diffmm_geo.__path__)
    for module in [importlib.import_module(f'diffmm_geo.{info.name}')]
    for name in getattr(module, '__all__', [])
    if callable(getattr(module, name))
}
OBSERVED = ('user', 'interacts', 'item')


def given_names():
    r"""What the calls below use: five users, four items."""
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 5, 4
    data['item'].x_image = torch.randn(4, 2)
    data['item'].x_text = torch.randn(4, 3)
    edges = torch.tensor([[0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 0, 1]])
    held_out = torch.tensor([[0, 1, 2, 3, 4], [2, 3, 0, 1, 2]])
    data[OBSERVED].edge_index = edges
    data[OBSERVED].val_edge_label_index = held_out
    data[OBSERVED].test_edge_label_index = held_out.clone()
    graphs = {OBSERVED: edges, ('user', 'denoised_image', 'item'): held_out}
    graphs['user', 'denoised_text', 'item'] = held_out.clone()
    return {
        **PUBLIC,
        **{'torch': torch, 'data': data, 'edges': edges, 'held_out': held_out},
        **{'user_x': torch.randn(5, 3), 'item_x': torch.randn(4, 3)},
        **{'rows': torch.zeros(2, 4), 'steps': torch.tensor([0, 3])},
        **{'graphs': graphs, 'OBSERVED': OBSERVED},
        'folder': lambda: tempfile.mkdtemp(dir='.'),
        'features': {m: data['item'][f'x_{m}'] for m in ('image', 'text')},
        'model': lambda **kwargs: PUBLIC['DiffMM'](
            5, 4, {'image': 2, 'text': 3}, 3, **kwargs
        ),
        'diffusion': lambda: PUBLIC['ModalityDiffusion'](
            4, ['image', 'text'], hidden_channels=6, time_channels=4
        ),
        'small': {'num_epochs': 1, 'batch_size': 3, 'k': 2, 'embedding_dim': 2},
    }


# Calls that no docstring has, or with more arguments.
CALLS = """
info_nce(user_x, user_x.clone(), torch.tensor([0, 4]), 0.5, num_candidates=3)
spmm(SparseMatrix.from_coo(*edges, torch.rand(6), (5, 4)), item_x, 'naive')
propagate(
    BipartiteAdj.from_adj(edges, (5, 4), prepare=True), user_x, item_x,
    'torch_csr',
)
topk_items(user_x, item_x, 2, bias=torch.randn(4))
default_backend('cpu')
available_backends('cpu')
CSR.from_edge_index(edges, (5, 4))
BipartiteAdj.from_adj(edges, (5, 4), prepare=True).dropout(0.5)
MultiModalLightGCNConv(['image'], generated_weight=0.2, edge_type=OBSERVED)
MultiModalLightGCNConv(['image', 'text'])(
    {'user': user_x, 'item': item_x}, graphs,
    {'image': item_x.clone(), 'text': item_x.clone()},
)
CrossModalContrastiveLoss(0.5, 'main', num_candidates=3)(
    {'image': user_x, 'text': user_x.clone()}, torch.tensor([0, 4]),
    main=user_x.clone(),
)
GaussianDiffusion().q_sample(rows, steps, noise=rows.clone())
GaussianDiffusion().posterior_step(rows, rows.clone(), 2, noise=rows.clone())
MaskedDiffusion().q_sample(rows, steps, noise=torch.rand(2, 4))
MaskedInteractionDiffusion(4, hidden_channels=6).loss(
    rows, item_x, item_x.clone(), 0.1, t=steps, noise=torch.rand(2, 4)
)
MaskedInteractionDiffusion(4, hidden_channels=6).sample(rows, 2)
Denoiser(4, 6, 4, 0.5)(rows, steps)
Denoiser(4, 6, 4, feature_channels=3).set_features(
    item_x, torch.tensor([True, True, False, True]),
)
Denoiser(4, 6, 4).load_official_state_dict({
    'emb_layer.weight': torch.ones(4, 4), 'emb_layer.bias': torch.ones(4),
    'in_layers.0.weight': torch.ones(6, 8), 'in_layers.0.bias': torch.ones(6),
    'out_layers.0.weight': torch.ones(4, 6), 'out_layers.0.bias': torch.ones(4),
})
ModalityDiffusion(4, ['image'], GaussianDiffusion(), hidden_channels=6)
diffusion().loss(
    'image', rows, item_x, item_x.clone(), 0.1, t=steps, noise=rows.clone()
)
diffusion().batch_loss(
    'image', CSR.from_edge_index(edges, (5, 4)), item_x, item_x.clone(), 0.1,
    form='sampled',
)
diffusion().sample('image', rows, 2)
diffusion().set_features(features, torch.tensor([True, True, False, True]))
ModalityDiffusion.paper(4, ['image'], hidden_channels=6).sample(
    'image', rows, 2, True,
)
diffusion().sample_edges(
    'image', edges, 5, 2, candidates=torch.tensor([0, 2, 3]),
    exclude_observed=True,
)
DiffMM(5, 4, {'image': 2}, 3)
model()(features, graphs)
model().modality_views(features, graphs)
model().loss(
    features, graphs, edges, torch.tensor([2, 3, 3, 0, 1, 2]), reg_weight=0.1,
    ssl_weight=0.1, temperature=0.5, anchor='main', num_candidates=3,
)
model().adjacency_dict(graphs)
model().projected(features)
model().recommend(features, graphs, 2, edges, user_index=torch.tensor([0, 2]))
model(projection='leaky_xavier').load_official_state_dict({
    'uEmbeds': user_x, 'iEmbeds': item_x, 'modal_weight': torch.ones(2),
    'image_trans': torch.ones(2, 3), 'text_trans': torch.ones(3, 3),
})
model(standardize=True).fit_standardization(features)
model().save_pretrained('a', graphs, {'user': list('abcde'), 'item': ['a'] * 4})
ItemKNNGraph(2, ['image'])(data)
ModalityAwareGraphDiffusion(diffusion(), OBSERVED, 1, 0)(data)
ModalityAwareGraphDiffusion.paper(diffusion())(data)
ModalityAwareGraphDiffusion(diffusion()).fit(
    data, item_x, {'image': item_x.clone(), 'text': item_x.clone()},
    num_epochs=1, batch_size=2, lr=1e-3, msi_weight=0.1, embedding_dim=3,
)
TrainingConfig()
LightGCNConfig()
DiffMMTrainer(data, DiffMMConfig(**small, hidden_channels=6), ['image']).fit()
LightGCNTrainer(data, LightGCNConfig(**small)).fit()
NegativeSampler(edges, 5, 4).sample(torch.tensor([0, 4]))
Recommender(user_x, item_x, edges).recommend(torch.tensor([0, 2]), 2)
Recommender(user_x, item_x, edges).fold_in([[0, 1], [2]], 2, candidates=[1, 2])
evaluate(user_x, item_x, held_out, edges, k=2)
evaluate_cold(user_x, item_x, held_out, edges[:, :2], k=2, candidates='cold')
generation_metrics(held_out, edges, held_out.clone(), 4)
write_mmrec(data, folder(), 'toy')
"""

FILES = 'read by tests/datasets/fuzz.py'
TASK = 'checked by its trainer'
NOT_CALLED = {
    **dict.fromkeys(['AmazonBaby', 'AmazonSports', 'DiffMMDataset'], FILES),
    **dict.fromkeys(['MMRecDataset', 'MovieLens100K', 'TikTok'], FILES),
    **dict.fromkeys(['load_dataset'], FILES),
    **dict.fromkeys(['Task', 'DiffMMTask', 'LightGCNTask', 'Trainer'], TASK),
    'CSR': 'documents that it does not check',
    'RawIds': 'a list of anything',
}


# PyTorch names these in errors of its own.
PASSED_ON = {'generator', 'dtype'}
# The parts of arguments that errors name, and the names of files.
ALSO_NAMED = {
    'BipartiteAdj.from_adj': ['edge_index'],
    'from_random_link_split': ['data', 'train'],
    'read_interactions': [''],
    'load_folder': [''],
}


class Recorded(ast.NodeTransformer):
    r"""Calls `__call__(f, ...)` instead of `f(...)`."""

    def visit_Call(self, node):
        self.generic_visit(node)
        name = ast.copy_location(ast.Name('__call__', ast.Load()), node)
        call = ast.Call(name, [node.func, *node.args], node.keywords)
        return ast.copy_location(call, node)


@cache
def programs():
    r"""The examples in docstrings and the calls above, compiled."""
    parse = doctest.DocTestParser().get_examples
    sources = [
        ''.join(e.source for e in parse(inspect.getdoc(value) or ''))
        for value in PUBLIC.values()
    ]
    calls = ast.parse(CALLS).body
    sources += [ast.unparse(node) for node in calls]
    trees = [Recorded().visit(ast.parse(s)) for s in sources if s]
    return [compile(ast.fix_missing_locations(t), '', 'exec') for t in trees]


class Stop(Exception):
    pass


def run(program, call):
    r"""Runs a program, with `call` in place of each public call."""

    def inner(f, *args, **kwargs):
        name = name_of(f)
        if name is None:
            return f(*args, **kwargs)
        return call(name, f, args, kwargs)

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        exec(program, {**given_names(), '__call__': inner})


def name_of(f):
    r"""The name of a public function, class or method."""
    if f in PUBLIC.values():
        return f.__name__
    owner = getattr(f, '__self__', f)
    cls = owner if inspect.isclass(owner) else type(owner)
    if PUBLIC.get(cls.__name__) is not cls:
        return None
    if owner is f:
        return f'{cls.__name__}()'
    ours = f.__func__.__module__.startswith('diffmm_geo')
    return f'{cls.__name__}.{f.__name__}' if ours else None


def arguments(f, args, kwargs):
    r"""The arguments of a call by name, with defaults."""
    f = f.forward if isinstance(f, torch.nn.Module) else f
    signature = inspect.signature(f)
    if next(iter(signature.parameters), None) == 'args':  # With overloads.
        # Since Python 3.11.
        for form in getattr(typing, 'get_overloads', lambda f: [])(f):
            with suppress(TypeError):
                signature = inspect.signature(form)
                signature.bind(*args, **kwargs)
                break
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    out = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            out.update(out.pop(name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            del out[name]
    return out


@cache
def calls():
    r"""For each public name, calls in programs with as many arguments as any:
    the program, the number of the call in it, and the arguments by name.
    """
    found = {}
    for program in programs():
        numbers = count()

        def record(name, f, args, kwargs, program=program, numbers=numbers):
            by_name = arguments(f, args, kwargs)
            length = len(args) + len(kwargs)
            call = program, next(numbers), by_name
            found.setdefault(name, []).append((length, call))
            return f(*args, **kwargs)

        run(program, record)
    for name, entries in found.items():
        entries.sort(key=lambda entry: -entry[0])
        found[name] = [call for _, call in entries[:2]]
    return found


def replay(program, number, argument, value):
    numbers = count()

    def call(name, f, args, kwargs):
        if next(numbers) < number:
            return f(*args, **kwargs)
        f(**{**arguments(f, args, kwargs), argument: value})
        raise Stop

    with pytest.raises(Stop):
        run(program, call)


def names_in(arguments):
    r"""Names of arguments, and of what they hold."""
    for name, value in arguments.items():
        yield name
        if isinstance(value, HeteroData):
            yield from {key for store in value.stores for key in store}
        elif is_dataclass(value):
            yield from vars(value)
        elif isinstance(value, tuple):
            yield from (f'{name}_user', f'{name}_item')


NAMES = sorted(PUBLIC.keys() - NOT_CALLED.keys())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_all_are_called():
    called = {name.partition('.')[0].rstrip('()') for name in calls()}
    assert PUBLIC.keys() - called - NOT_CALLED.keys() == set()


@pytest.mark.parametrize('name', NAMES)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(data=st.data())
def test_result_or_value_error(name, data):
    found = [n for n in calls() if re.split(r'\W', n)[0] == name]
    if not found:
        return
    name = data.draw(st.sampled_from(sorted(found)))
    place = data.draw(st.integers(0, len(calls()[name]) - 1))
    program, number, args = calls()[name][place]
    assume(args.keys() - PASSED_ON)
    argument = data.draw(st.sampled_from(sorted(args.keys() - PASSED_ON)))
    valid = args[argument]
    value = data.draw(st.one_of(OTHERS, variants(valid)))
    is_flag = isinstance(valid, bool)  # Any value but a tensor has a truth.
    assume(not (is_flag and isinstance(value, torch.Tensor)))
    try:
        replay(program, number, argument, value)
    except ValueError as error:
        # If shapes depend on each other, the error may name another argument.
        if is_flag or valid is None or isinstance(value, type(valid)):
            named = args
        else:
            named = {argument: valid}
        names = {*names_in(named), *ALSO_NAMED.get(name, [])}
        quoted = set(re.findall(r"'(\w*)", str(error)))
        assert quoted & names, f'{name}({argument}={value!r:.300}): {error}'
    except NonFiniteLossError:
        pass  # Names the step and the term.
    except OSError:
        assert isinstance(value, str)  # A path.
    except Exception as error:
        raise AssertionError(
            f'{name}({argument}={value!r:.300}) raised {error!r}'
        ) from error
