"""The machine's own figures, under the names by which MLflow's UI knows them."""

from __future__ import annotations

import psutil

from langevin.tracking.system import SystemMonitor


def test_the_machine_is_read_since_the_last_reading() -> None:
    machine = SystemMonitor()
    first, second = machine.read(), machine.read()
    assert first.keys() == second.keys()
    assert all(name.startswith("system/") for name in first)
    assert 0 <= second["system/cpu_utilization_percentage"] <= 100
    memory = psutil.virtual_memory().total / 1e6
    assert 0 < second["system/system_memory_usage_megabytes"] < memory
    assert 0 <= first["system/network_receive_megabytes"] <= second["system/network_receive_megabytes"]
