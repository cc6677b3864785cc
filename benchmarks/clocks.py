from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle, islice

import torch

# The calls in a graph, and about the seconds that they take at most.
MAX_CALLS, MAX_SECONDS = 64, 5e-3
# The queue of a device holds about 1,000 launches.
QUEUED_CALLS = 16
MIN_REPEATS, MAX_REPEATS = 3, 1000


class CPUClock:
    """Times calls one by one."""

    is_host = True

    def eager(
        self, fn: Callable, turns: Sequence[tuple], count: int
    ) -> list[float]:
        samples = []
        for i in range(count):
            args = turns[i % len(turns)]
            start = time.perf_counter()
            fn(*args)
            samples.append(time.perf_counter() - start)
        return samples

    def steady(
        self,
        fn: Callable,
        turns: Sequence[tuple],
        seconds: float,
        estimate: float,
    ) -> tuple[list[float], str]:
        repeats = max(MIN_REPEATS, min(int(seconds / estimate), MAX_REPEATS))
        return self.eager(fn, turns, repeats), ''


class GPU:
    """What the clock needs of a device. Tests replace it."""

    def __init__(self) -> None:
        self._product: tuple[torch.Tensor, float] | None = None

    def event(self) -> torch.cuda.Event:
        """Marks a point of the stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return start.elapsed_time(end) / 1e3

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def rehearse(self, work: Callable[[], None]) -> None:
        """Runs the work, and raises if it waits for the device."""
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode('error')
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Captures the work in a graph, and returns its replay."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                work()
        except Exception:
            # Otherwise, random numbers may raise errors from now on.
            with suppress(RuntimeError):
                device = torch.cuda.current_device()
                generator = torch.cuda.default_generators[device]
                generator.graphsafe_set_state(generator.clone_state())
            raise
        return graph.replay

    def hold(self, seconds: float) -> None:
        """Keeps the device busy with few launches."""
        if self._product is None:
            x = torch.zeros(4096, 4096, device='cuda')
            x @ x
            start = self.event()
            x @ x
            end = self.event()
            self.synchronize()
            self._product = x, self.seconds(start, end)
        x, each = self._product
        for _ in range(math.ceil(seconds / each)):
            x @ x


class GPUClock:
    """Times the work of a device without the host's: replays graphs of many
    calls. Where these cannot be captured, queues calls behind other work.
    """

    is_host = False

    def __init__(self, gpu: GPU) -> None:
        self.gpu = gpu
        # Why nothing is captured any more, if so.
        self.failure = ''

    def eager(
        self, fn: Callable, turns: Sequence[tuple], count: int
    ) -> list[float]:
        """Seconds of single calls: the host's, if it is slower."""
        turn = cycle(turns)
        return self._time(lambda: fn(*next(turn)), count)

    def steady(
        self,
        fn: Callable,
        turns: Sequence[tuple],
        seconds: float,
        estimate: float,
    ) -> tuple[list[float], str]:
        """Seconds per call, as means over several, and why they are not from a
        graph, if so.
        """
        turn, sets = cycle(turns), len(turns)

        def work(count: int) -> None:
            for args in islice(turn, count):
                fn(*args)

        most = min(MAX_CALLS, int(MAX_SECONDS / estimate))
        calls = sets * max(1, most // sets)
        run, reason = self._graph(work, sets, calls)
        if run is None:
            calls = min(calls, QUEUED_CALLS)

            def hold() -> None:
                self.gpu.hold(2 * (calls + 1) * estimate)
                work(1)  # What held the device also emptied its cache.

            samples = self._repeat(partial(work, calls), seconds, hold)
        else:
            samples = self._repeat(run, seconds)
        return [sample / calls for sample in samples], reason

    def _graph(
        self, work: Callable[[int], None], sets: int, calls: int
    ) -> tuple[Callable[[], None] | None, str]:
        if self.failure:
            return None, self.failure
        try:
            self.gpu.rehearse(partial(work, sets))
        except Exception as error:
            return None, f'no CUDA graph, as {_describe(error)}'
        try:
            return self.gpu.capture(partial(work, calls)), ''
        except torch.OutOfMemoryError as error:
            return None, f'no CUDA graph, as {_describe(error)}'
        except Exception as error:
            # PyTorch does not recover in full: what follows is queued, too.
            self.failure = f'no CUDA graph after {_describe(error)}'
            return None, self.failure

    def _repeat(
        self,
        run: Callable[[], None],
        seconds: float,
        before: Callable[[], None] | None = None,
    ) -> list[float]:
        start = time.perf_counter()
        self._time(run, 1, before)
        each = time.perf_counter() - start
        repeats = max(MIN_REPEATS, min(int(seconds / each), MAX_REPEATS))
        return self._time(run, repeats, before)

    def _time(
        self,
        run: Callable[[], None],
        repeats: int,
        before: Callable[[], None] | None = None,
    ) -> list[float]:
        events = []
        self.gpu.synchronize()
        for _ in range(repeats):
            if before is not None:
                before()
            start = self.gpu.event()
            run()
            events.append((start, self.gpu.event()))
        self.gpu.synchronize()
        return [self.gpu.seconds(*pair) for pair in events]


def _describe(error: BaseException) -> str:
    # The end of a capture hides the error in it.
    while error.__context__ is not None:
        error = error.__context__
    text = str(error).strip().split('\n')[0]
    return f'{type(error).__name__}: {text}'[:120]
