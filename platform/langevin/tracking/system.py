"""How busy the machine of a training is, by MLflow's own monitors: the figures that its UI shows as system metrics."""

from __future__ import annotations

import logging
from typing import Any

_LOG = logging.getLogger(__name__)


class SystemMonitor:
    """Of this machine: CPU, memory, disk, network, and each GPU where its vendor's library (pynvml) is installed.

    Read beside the log, so that what the machine did has the same steps as the loss that it did it for.
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        try:
            self._monitors.append(GPUMonitor())
        except Exception as reason:  # ImportError without the library, whatever the driver raises without a GPU
            _LOG.debug("no system metrics of GPUs: %s", reason)

    def read(self) -> dict[str, float]:
        """``system/NAME`` -> value, since the last reading; percentages in [0, 100], sizes in megabytes."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
