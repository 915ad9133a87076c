"""Peak memory of one training, in a process that has trained others before."""

from contextlib import suppress

from hyppo.training.frameworks import imported


class PeakMemory:
    """Peak of the memory used from now on, in bytes.

    On Linux this first resets the kernel's record of the highest resident set, so that the peak is that of this
    training and not of an earlier one in the same process.

    Examples
    --------
    >>> "memory" in PeakMemory().measured() or sys.platform != "linux"
    True
    """

    def __init__(self) -> None:
        with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        for framework, module in imported():
            framework.reset_peak(module)

    def measured(self) -> dict[str, float]:
        """`memory`, and `gpu_memory` if a framework provides it; numbers unknown to the system are omitted."""
        found: dict[str, float] = {}
        with suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii", errors="replace") as file:
            line = next(line for line in file if line.startswith("VmHWM:"))
            found["memory"] = 1024.0 * int(line.split()[1])
        peaks = [peak for framework, module in imported() if (peak := framework.peak(module)) is not None]
        if peaks:
            found["gpu_memory"] = float(sum(peaks))
        return found
