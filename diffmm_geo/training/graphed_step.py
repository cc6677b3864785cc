from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]

# PyTorch needs some steps on a side stream before it records one.
NUM_WARMUP_STEPS = 3


class GraphedStep:
    r"""Records a training step as a CUDA graph and replays it, so that hundreds
    of small kernels cost one launch. The first steps, and steps on a batch of
    another size, run as they are.

    Args:
        step (callable): Takes a training step on a batch without waiting for
            the device, and returns a tensor.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self.num_steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        if self.num_steps < NUM_WARMUP_STEPS:
            self.num_steps += 1
            self.batch = batch.clone()
            return self._on_side_stream(batch)
        if batch.size() != self.batch.size():
            return self.step(batch)
        self.batch.copy_(batch)
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.output = self.step(self.batch)
            self.graph = graph
        self.graph.replay()
        return self.output.clone()

    def _on_side_stream(self, batch: Tensor) -> Tensor:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            out = self.step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return out
