from __future__ import annotations

import subprocess
import sys

from benchmarks.gpu.graphs import NAMES
from benchmarks.gpu.phase import PHASES, ROOT, Spec, end, wait

(PEERS,) = (phase for phase in PHASES if phase.in_background)


class Background:
    """Runs the build of peers and the generation of large graphs during the
    first phases, on idle cores.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.peers: subprocess.Popen | None = None
        if spec.sources is not None:
            self.peers = PEERS.start(spec, 0.0)
        self.graphs: subprocess.Popen | None = None
        if not spec.quick and spec.device != 'cpu':
            names = [n for n in NAMES if n.endswith(('e7', 'e8'))]
            with open(spec.logs / 'graphs.log', 'w') as log:
                self.graphs = subprocess.Popen(
                    [sys.executable, '-m', 'benchmarks.graphs', spec.scratch]
                    + names,
                    cwd=ROOT,
                    env=spec.env,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def wait(self, seconds: float) -> str:
        """Waits for peers, as timings need idle cores. Graphs that are not
        ready are generated on use.
        """
        if self.peers is None:
            return 'left out: needs --sources'
        return wait(self.peers, seconds, PEERS.log(self.spec))

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *error: object) -> None:
        for process in (self.peers, self.graphs):
            if process is not None:
                end(process)
