class FakeGPU:
    r"""A device that takes `cold` seconds for a call on other inputs than those
    of the last call, and `warm` on the same, and a host that takes `launch`
    seconds to launch it.
    """

    cold, warm, launch, replay = 5e-6, 2e-6, 40e-6, 8e-6

    def __init__(self, refuses=None, waits=False):
        self.refuses, self.waits = refuses, waits
        self.now = self.free = 0.0
        self.last = self.captured = None
        self.captures = 0

    def call(self, inputs):
        if self.captured is not None:
            self.captured.append(inputs)
            return
        self.now += self.launch
        self._run(inputs)
        if self.waits:
            self.synchronize()

    def _run(self, inputs):
        seconds = self.warm if inputs == self.last else self.cold
        self.free = max(self.free, self.now) + seconds
        self.last = inputs

    def event(self):
        return max(self.free, self.now)

    def seconds(self, start, end):
        return end - start

    def synchronize(self):
        self.now = max(self.free, self.now)

    def hold(self, seconds):
        self.last = None
        self.free = max(self.free, self.now) + seconds

    def rehearse(self, work):
        work()
        if self.waits:
            raise RuntimeError('it waits\nand more')

    def capture(self, work):
        self.captures += 1
        self.captured = []
        try:
            work()
            calls = self.captured
            if self.refuses is not None:
                raise self.refuses
        finally:
            self.captured = None

        def replay():
            self.now += self.replay
            for inputs in calls:
                self._run(inputs)

        return replay
