"""The processor of this machine."""

import platform
from pathlib import Path

__all__ = ["processor_name"]


def processor_name() -> str:
    """The maker's name of the CPU, as well as it can be known."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
