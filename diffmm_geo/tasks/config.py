from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from diffmm_geo.ops.ranking import METRICS
from diffmm_geo.utils.checks import (
    MAX_SEED,
    as_int,
    check_choice,
    check_int,
    check_number,
)

#: The data types of large products; see :class:`TrainingConfig`.
PRECISIONS = ('fp32', 'tf32', 'bf16')


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    r"""The settings that all models share.

    Args:
        num_epochs (int, optional): The maximum number of epochs.
            (default: :obj:`1000`)
        patience (int, optional): Training stops after this number of epochs
            without a better value of :obj:`metric`. (default: :obj:`20`)
        batch_size (int, optional): The number of interactions (and of users,
            in the diffusion phase) per step. (default: :obj:`1024`)
        lr (float, optional): The learning rate of Adam.
            (default: :obj:`1e-3`)
        reg_weight (float, optional): The weight of the squared norm of the
            ID embeddings. (default: :obj:`1e-6`)
        k (int, optional): The length of the ranking in evaluation.
            (default: :obj:`20`)
        metric (str, optional): The validation metric that selects the epoch:
            :obj:`"recall"`, :obj:`"precision"`, :obj:`"ndcg"`,
            :obj:`"hit_ratio"`, :obj:`"map"` or :obj:`"mrr"`.
            (default: :obj:`"recall"`)
        eval_every (int, optional): The number of epochs from one evaluation to
            the next. The last epoch of :obj:`num_epochs` is always evaluated.
            Only evaluated epochs are selected. (default: :obj:`1`)
        precision (str, optional): The data type of large products:
            :obj:`"fp32"`, :obj:`"tf32"` for the products of denoisers on a GPU
            that supports it, or :obj:`"bf16"` through autocast. Weights, sums
            and everything else stay in single precision.
            (default: :obj:`"fp32"`)
        cuda_graphs (bool, optional): Whether to record a step as a CUDA graph
            and to replay the graph. It is recorded again when generated graphs,
            or what a kernel derives from them, change in size.
            (default: :obj:`False`)
        seed (int, optional): The seed of all random numbers.
            (default: :obj:`0`)

    Example:
        >>> from dataclasses import replace
        >>> from diffmm_geo.training import RECIPES
        >>> config = replace(RECIPES['tiktok'], seed=1, num_epochs=10)
        >>> config.reg_weight, config.seed
        (0.0001, 1)
    """

    num_epochs: int = 1000
    patience: int = 20
    batch_size: int = 1024
    lr: float = 1e-3
    reg_weight: float = 1e-6
    k: int = 20
    metric: str = 'recall'
    eval_every: int = 1
    precision: str = 'fp32'
    cuda_graphs: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        # Checkpoints and JSON hold plain values only.
        for field in fields(self):
            value = as_plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        check_int('num_epochs', self.num_epochs)
        check_int('patience', self.patience)
        check_int('batch_size', self.batch_size)
        check_number('lr', self.lr, 0.0, low_open=True)
        check_number('reg_weight', self.reg_weight, 0.0)
        check_int('k', self.k)
        check_choice('metric', self.metric, METRICS)
        check_int('eval_every', self.eval_every)
        check_choice('precision', self.precision, PRECISIONS)
        check_int('seed', self.seed, 0, MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig(TrainingConfig):
    r"""The settings of :class:`~diffmm_geo.training.LightGCNTrainer`. As in
    :class:`~torch_geometric.nn.models.LightGCN`, :obj:`reg_weight` is the
    weight of the squared norm of the batch's embeddings, divided by the batch
    size.

    Args:
        embedding_dim (int, optional): The size of embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number of layers.
            (default: :obj:`2`)
    """

    reg_weight: float = 1e-4
    embedding_dim: int = 64
    num_layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int('embedding_dim', self.embedding_dim)
        check_int('num_layers', self.num_layers)


def as_plain(value: Any) -> Any:
    r"""Numbers of another library, such as NumPy, as those of Python, also
    in lists. Anything else stays as it is.
    """
    if isinstance(value, (list, tuple)):
        return type(value)([as_plain(v) for v in value])
    number = as_int(value)
    if number is not None:
        return number
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_real else value
