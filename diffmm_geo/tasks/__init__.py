r"""What is trained, apart from who drives it: a model, its data and its
objective.
"""

from .bpr_task import BPRTask
from .diffmm_task import DiffMMTask
from .lightgcn_task import LightGCNTask
from .task import Task

__all__ = ['BPRTask', 'DiffMMTask', 'LightGCNTask', 'Task']
