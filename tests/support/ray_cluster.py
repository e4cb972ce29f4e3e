"""A Ray cluster of two nodes on this machine, for tests that join one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest


class TwoNodes(NamedTuple):
    """A cluster of a head and one more node, of one core each; the second says that it has a GPU."""

    address: str
    second: int
    """Process of the second node's raylet."""


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """The cluster; skips the test where Ray is not installed."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # A node that does not answer is taken for dead sooner than by default.
    quick = {"health_check_period_ms": 300, "health_check_failure_threshold": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            second = cluster.add_node(num_cpus=1, num_gpus=1)
            yield TwoNodes(cluster.address, second.all_processes["raylet"][0].process.pid)
        finally:
            cluster.shutdown()
