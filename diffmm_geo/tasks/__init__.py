r"""Tasks: a model, its data and its objective, without a training loop."""

from .bpr_task import BPRTask
from .diffmm_task import DiffMMTask
from .lightgcn_task import LightGCNTask
from .task import Task

__all__ = ['BPRTask', 'DiffMMTask', 'LightGCNTask', 'Task']
