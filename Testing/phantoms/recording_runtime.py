"""A runtime that keeps what it is shown, to see what an engine's strategy gives a network."""

from strokeseg.runtime.base import NumpyRuntime


class Recorder(NumpyRuntime):
    """Keeps what it is shown."""

    name, device = "recorder", "cpu"

    def __init__(self):
        self.seen = []

    def run(self, batch):
        """The first channel as logits."""
        self.seen += list(batch)
        return {"lesion": batch[:, :1]}
