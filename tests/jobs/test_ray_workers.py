"""Actors of a Ray cluster by themselves: outcomes, deaths of actors and nodes, logs, nodes not fit for it."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from amplify_motion_tokenizer.errors import (
    ConfigError,
    TrackerError,
    UnexpectedError,
    UsageError,
    VideoError,
    WorkerError,
)
from amplify_motion_tokenizer.jobs import ray_workers
from amplify_motion_tokenizer.jobs.ray_actor import Given, check_node
from amplify_motion_tokenizer.jobs.ray_share import Asked, Node, Share, share
from amplify_motion_tokenizer.jobs.ray_workers import Ray, RayActors, Seen, run_in_actors
from tests.support.processes import is_running, until
from tests.support.ray_cluster import TwoNodes, two_nodes
from tests.support.worker_jobs import cannot_prepare, no_tracker, prepare


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes() as found:
        yield found


def actors(nodes: TwoNodes, count: int = 2, recycle_after: int = 1000) -> RayActors:
    asked = Asked(count, 100, (), False)
    return RayActors(ray=Ray(address=nodes.address), asked=asked, recycle_after=recycle_after)


def test_every_item_has_its_outcome_whatever_becomes_of_the_others(
    nodes: TwoNodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "marks").mkdir()
    once = f"once {tmp_path / 'marks'}"
    items = ["a", "killed", "b", "bad", "bug", "talks", once, "c"]
    with caplog.at_level(logging.WARNING):
        outcomes = dict(run_in_actors(items, actors(nodes), prepare, seen=Seen([tmp_path])))
    assert sorted(outcomes) == sorted(items)
    died, bad, bug = (outcomes.pop(item) for item in ("killed", "bad", "bug"))
    assert isinstance(died, WorkerError) and "died, and another one again, on node" in str(died)
    assert isinstance(bad, VideoError) and str(bad) == "bad: is no video"
    assert isinstance(bug, UnexpectedError) and str(bug).startswith("ZeroDivisionError: a bug")
    assert {item: str(said).rpartition(" of ")[0] for item, said in outcomes.items()} == {
        item: f"{item} on 1" for item in outcomes
    }
    assert str(os.getpid()) not in {str(said).split()[-1] for said in outcomes.values()}
    logged = [(record.name, record.getMessage()) for record in caplog.records]
    assert {("jobs", "said 1"), ("py.warnings", "warned")} <= set(logged)
    again = [text for _, text in logged if text.endswith("it is tried once more")]
    assert {text.split(":")[0] for text in again} == {once, "killed"}
    assert all(f"its Ray actor died on node {socket.gethostname()} (" in text for text in again)
    assert len(logged) == 4 and not list(tmp_path.glob(".*"))


def test_an_actor_ends_after_so_many_items(nodes: TwoNodes) -> None:
    outcomes = list(run_in_actors(list("abcd"), actors(nodes, count=1, recycle_after=2), prepare))
    processes = [str(said).split()[-1] for _, said in outcomes]
    assert [item for item, _ in outcomes] == list("abcd")
    assert processes[0] == processes[1] != processes[2] == processes[3]
    until(lambda: not any(is_running(int(process)) for process in processes))


def test_actors_have_their_share_of_a_gpu_or_none(nodes: TwoNodes) -> None:
    """The node only says that it has one, which no actor here uses."""
    asked = Asked(2, 100, ("auto",), True)
    sharing = RayActors(ray=Ray(address=nodes.address), asked=asked)
    for chosen, shown in ((sharing, "'0'"), (actors(nodes), "''")):
        outcomes = [said for _, said in run_in_actors([f"gpus {n}" for n in range(4)], chosen, prepare)]
        assert {str(said).split(" of ")[0] for said in outcomes} == {shown}


def test_an_item_that_takes_too_long_is_ended_and_not_tried_again(
    nodes: TwoNodes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        outcomes = dict(run_in_actors(["hangs", "a"], actors(nodes, count=1), prepare, limit_s=0.5))
    assert isinstance(outcomes["hangs"], WorkerError)
    assert str(outcomes["hangs"]).startswith("took longer than 0.5 s, and its Ray actor was ended")
    assert str(outcomes["a"]).startswith("a on 1") and not caplog.records


def test_an_input_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot read memory://clips, which is in the memory"):
        Ray().check_input("memory://clips")


def test_closing_ends_actors_that_are_busy(nodes: TwoNodes, tmp_path: Path) -> None:
    outcomes = run_in_actors(["a", "hangs", "hangs"], actors(nodes), prepare, seen=Seen([tmp_path]))
    item, said = next(outcomes)
    assert item == "a" and list(tmp_path.glob(".*"))
    outcomes.close()
    assert not is_running(int(str(said).split()[-1])) and not list(tmp_path.glob(".*"))


def test_work_that_cannot_be_prepared_ends_the_run(nodes: TwoNodes) -> None:
    with pytest.raises(TrackerError, match=r"^weights: not there$"):
        list(run_in_actors(["a"], actors(nodes, count=1), no_tracker))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: no work on 1"):
        list(run_in_actors(["a"], actors(nodes, count=1), cannot_prepare))


def test_a_node_that_does_not_see_the_files_ends_the_run(nodes: TwoNodes, tmp_path: Path) -> None:
    unseen = tmp_path / "elsewhere"
    with pytest.raises(UsageError, match=f"does not see {unseen}"):
        list(run_in_actors(["a"], actors(nodes, count=1), prepare, seen=Seen([tmp_path], [unseen])))


def test_a_lost_node_costs_no_clip(nodes: TwoNodes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The last test of the cluster, as it ends a node."""
    meet = f"meet {tmp_path} {nodes.second}"
    items = [f"{meet} 1", f"{meet} 2", "a", "b"]
    with caplog.at_level(logging.WARNING):
        outcomes = dict(run_in_actors(items, actors(nodes), prepare))
    assert not is_running(nodes.second)
    assert {item: str(said).rpartition(" of ")[0] for item, said in outcomes.items()} == {
        item: f"{item} on 1" for item in items
    }
    (told,) = caplog.records
    assert "node was terminated unexpectedly" in told.getMessage()
    assert told.getMessage().endswith("it is tried once more")


def given(**other: object) -> Given:
    own = {"versions": {}, "folder": os.getcwd(), "seen": (), "writes_for": "1-00000000", "log_level": 30}
    return Given(**{**own, **other})  # type: ignore[arg-type]


def test_a_node_with_other_versions_or_folders_is_refused(tmp_path: Path) -> None:
    own = ray_workers.versions()
    torch = own["torch"].partition("+")[0]
    check_node("n", given(versions=own | {"torch": f"{torch}+cu130"}))
    with pytest.raises(UsageError) as raised:
        check_node("n", given(versions=own | {"torch": "2.5.9"}))
    assert str(raised.value) == (
        f"node n of the Ray cluster has torch {own['torch']}, and this process 2.5.9: outputs would differ; "
        "install the same on all nodes"
    )
    with pytest.raises(UsageError, match="amplify-motion-tokenizer .*, and this process 0.0.0"):
        check_node("n", given(versions={"amplify-motion-tokenizer": "0.0.0"}))
    with pytest.raises(UsageError, match="has nothing no version, and this process 1"):
        check_node("n", given(versions={"nothing": "1"}))
    with pytest.raises(UsageError, match=f"cannot enter {tmp_path / 'gone'}.*start it in a folder"):
        check_node("n", given(folder=str(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://a:1", "expected HOST:PORT"),
        ("a", "expected HOST:PORT"),
        ("127.0.0.1:99999", "expected HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("nowhere.invalid:6379", "no Ray cluster answers there"),
    ],
)
def test_a_bad_address_is_told_at_once(address: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UsageError, match=said):
        next(run_in_actors(["a"], actors(TwoNodes(address, 0)), prepare))


def test_without_ray_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "ray", missing)  # what makes Python's import fail
    with pytest.raises(UsageError, match=r"ray, which is not installed; pip install 'ray>=.*extra ray"):
        Ray().check()


HALF, THIRD = 0.5, 0.3333


@pytest.mark.parametrize(
    ("cluster", "asked", "expected"),
    [
        # One per core of all nodes; no more than there is to do; as many as asked, who share the cores.
        ([Node(4, 0), Node(2, 0)], Asked(None, 100, (), False), Share(6, 1, 1, 0)),
        ([Node(4, 0), Node(2, 0)], Asked(None, 2, (), False), Share(2, 2, 2, 0)),
        ([Node(4, 0), Node(2, 0)], Asked(3, 100, (), False), Share(3, 2, 2, 0)),
        ([Node(2, 0)], Asked(4, 100, (), False), Share(4, 1, HALF, 0)),
        ([Node(1, 0), Node(1, 0)], Asked(5, 100, (), False), Share(5, 1, THIRD, 0)),
        # A head without cores runs nothing.
        ([Node(0, 0), Node(8, 0)], Asked(2, 100, (), False), Share(2, 4, 4, 0)),
        # A neural tracker on the CPU has a node for itself.
        ([Node(8, 0), Node(8, 0)], Asked(None, 100, ("cpu",), True), Share(2, 8, 8, 0)),
        # On GPUs one per GPU, and nodes without are left out; several share one where more are asked.
        ([Node(64, 0), Node(8, 2)], Asked(None, 100, ("auto",), True), Share(2, 4, 4, 1)),
        ([Node(64, 0), Node(8, 2)], Asked(5, 100, ("cuda", "cpu"), True), Share(5, 1, 1, THIRD)),
        ([Node(4, 4), Node(64, 1)], Asked(None, 100, ("auto",), True), Share(5, 1, 1, 1)),
        ([Node(8, 2)], Asked(None, 100, ("cpu",), False), Share(8, 1, 1, 0)),
        ([Node(8, 0)], Asked(None, 100, ("auto",), False), Share(8, 1, 1, 0)),
    ],
)
def test_actors_share_out_the_cluster(cluster: list[Node], asked: Asked, expected: Share) -> None:
    assert share(cluster, asked) == expected


@pytest.mark.parametrize(
    ("cluster", "device", "error", "said"),
    [
        ([Node(8, 1)], "cuda:1", ConfigError, "Ray gives each actor its GPU"),
        ([Node(8, 0)], "cuda", ConfigError, "no node of the Ray cluster has a GPU"),
        ([Node(0, 0)], "cpu", UsageError, "has no CPUs"),
    ],
)
def test_a_cluster_that_cannot_do_it_is_told(
    cluster: list[Node], device: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        share(cluster, Asked(None, 10, (device,), False))
