from collections.abc import Callable

import torch

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
