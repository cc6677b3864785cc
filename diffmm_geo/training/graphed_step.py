from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[[Sequence[Tensor]], Tensor]

# PyTorch needs some steps on a side stream before it records one.
NUM_WARMUP_STEPS = 3


class GraphedStep:
    r"""Records a training step as a CUDA graph and replays it, so that hundreds
    of small kernels cost one launch. The first steps, and steps with inputs of
    another size, run as they are.

    Args:
        step (callable): Takes a training step on a list of tensors without
            waiting for the device, and returns a tensor.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self.num_steps = 0
        self.inputs: list[Tensor] = []
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        if self.num_steps < NUM_WARMUP_STEPS:
            self.num_steps += 1
            self.inputs = [x.clone() for x in inputs]
            return self._on_side_stream(inputs)
        if [x.size() for x in inputs] != [x.size() for x in self.inputs]:
            return self.step(inputs)
        for target, x in zip(self.inputs, inputs):
            target.copy_(x)
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.output = self.step(self.inputs)
            self.graph = graph
        self.graph.replay()
        return self.output.clone()

    def _on_side_stream(self, inputs: Sequence[Tensor]) -> Tensor:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            out = self.step(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return out
