"""An attention probe that keeps its records."""

from gptinit.measure.attention_probe import AttentionProbe
from gptinit.measure.statistics import Attention


class Seen:
    """A probe that keeps what it hears."""

    def __init__(self) -> None:
        self.calls: list[Attention] = []
        self.probe = AttentionProbe(self.calls.append)

    def listening(self) -> "Listening":
        """The probe on inside a with block."""
        return Listening(self.probe)


class Listening:
    """The probe on inside, off after it."""

    def __init__(self, probe: AttentionProbe) -> None:
        self.probe = probe

    def __enter__(self) -> None:
        self.probe.on()

    def __exit__(self, *_: object) -> None:
        self.probe.off()
