import warnings
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

# PyTorch needs some steps on a side stream before it records one. Later, a
# step compiles what new inputs need.
NUM_FIRST_STEPS = 3
NUM_NEXT_STEPS = 1

Function = Callable[[], object]


class CUDARecorder:
    r"""Runs and records work on a CUDA device, which needs to be the current
    one.

    Args:
        device (torch.device): The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def run(self, function: Function) -> None:
        r"""Runs work on a side stream, as PyTorch asks for before it is
        recorded.
        """
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            function()
        current.wait_stream(self.stream)

    def record(self, function: Function) -> Function:
        r"""Records work without running it, and returns what replays it. After
        an error, the stream and the random numbers are as before.
        """
        graph = torch.cuda.CUDAGraph()
        index = torch.cuda.current_device()
        generator = torch.cuda.default_generators[index]
        random_state = generator.clone_state()
        current = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                function()
        except BaseException:
            # An end of recording that fails leaves both behind.
            torch.cuda.set_stream(current)
            generator.graphsafe_set_state(random_state)
            raise
        return graph.replay


class GraphedStep:
    r"""Records a training step as a CUDA graph and replays it, so that hundreds
    of small kernels cost one launch. The first steps, and steps on a batch of
    another size, run as they are. If recording fails, all steps do.

    All recorded steps read the same batch, into which others are copied. So do
    the steps before: kernels that are compiled for the alignment of their
    inputs cannot be compiled while a step is recorded.

    Args:
        step (callable): Takes a training step on a batch without waiting for
            the device.
        recorder (CUDARecorder): Runs and records work.
        version (callable): Returns the version of the tensors that the step
            reads besides its batch. A new version is recorded anew.
    """

    def __init__(
        self,
        step: Callable[[Tensor], object],
        recorder: CUDARecorder,
        version: Callable[[], Hashable],
    ) -> None:
        self.step, self.recorder, self.version = step, recorder, version
        self.num_left = NUM_FIRST_STEPS
        self.batch: Tensor | None = None
        self.recorded: Hashable = None
        self.replay: Function | None = None
        self.has_failed = False

    def __call__(self, batch: Tensor) -> None:
        if self.batch is None:
            self.batch = torch.empty(
                batch.size(), dtype=batch.dtype, device=batch.device
            )
        if self.has_failed or batch.size() != self.batch.size():
            self.step(batch)
            return
        self.batch.copy_(batch)
        version = self.version()
        if self.replay is not None and version != self.recorded:
            self.replay, self.num_left = None, NUM_NEXT_STEPS
        if self.num_left > 0:
            self.num_left -= 1
            self.recorder.run(self._step)
            return
        if self.replay is None:
            try:
                self.replay = self.recorder.record(self._step)
            except Exception as error:
                # Recording runs nothing, so the step is still to be taken.
                self.has_failed = True
                text = str(error).strip().split('\n')[0]
                warnings.warn(
                    f"'cuda_graphs' has no effect, as a step cannot be "
                    f'recorded ({type(error).__name__}: {text})',
                    stacklevel=2,
                )
                self._step()
                return
            self.recorded = version
        self.replay()

    def _step(self) -> None:
        assert self.batch is not None
        self.step(self.batch)
