"""preprocess and infer with --engine ray: the files that the local pool writes, and clean ends."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import PROC, is_filled, until
from tests.support.ray_cluster import TwoNodes, two_nodes
from tests.support.run_scripts import (
    ENVIRONMENT,
    PREPROCESS,
    Run,
    Work,
    check_failures,
    command,
    files_below,
    infer,
    manifest_of,
    preprocess,
    render,
)

TIMED = ("seconds", "stage_seconds")
RAY = ("--engine", "ray")
NUMBER = "--tracking.num_workers"


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes() as found:
        yield found


@pytest.fixture
def ray_folder() -> Iterator[str]:
    """A folder of Ray's own, whose name must be short: sockets are in it."""
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="amt") as folder:
        yield folder


def written(folder: Path) -> dict[str, object]:
    """What a run left in its folder: bytes of its files, and its manifest without times."""
    manifest = {
        clip: {key: value for key, value in record.items() if key not in TIMED}
        for clip, record in manifest_of(folder).items()
    }
    files = {name: data for name, (_, data) in files_below(folder).items() if name != "manifest.jsonl"}
    return {**files, "manifest": manifest}


def test_ray_writes_what_the_pool_writes(
    run: Run, work: Work, broken: Path, nodes: TwoNodes, tmp_path: Path
) -> None:
    """Of videos some of which are broken, and of tracks; joined to a cluster, which stays."""
    cluster = (*RAY, "--ray-address", nodes.address, NUMBER, 2)
    one = preprocess(run, work, tmp_path / "by_pool", NUMBER, 2, source=broken)
    two = preprocess(run, work, tmp_path / "by_ray", *cluster, source=broken)
    check_failures(two, broken, tmp_path / "by_ray")
    assert one.out.replace("by_pool", "by_ray") == two.out and "INFO: 2 Ray actors of 1 CPUs each" in two.err
    assert written(tmp_path / "by_pool") == written(tmp_path / "by_ray")
    assert {"good.hdf5", "sub/good.hdf5", "config.yaml"} < written(tmp_path / "by_ray").keys()

    save = ("--save", "latents", "labels")
    alone = infer(run, work, tmp_path / "of_tracks", *save, source=work.tracks)
    assert alone.status == 0
    for source, expected in ((work.videos, work.codes), (work.tracks, tmp_path / "of_tracks")):
        result = infer(run, work, tmp_path / source.name, *cluster, *save, source=source)
        assert result.status == 0 and "4 done" in result.out and "Ray actors" in result.err
        made, pool = written(tmp_path / source.name), written(expected)
        for each in (made, pool):
            del each["config.yaml"], each["manifest"]  # other numbers of workers; from another folder
        assert made == pool and {"pan.json", "pan.pt", "codes.jsonl"} < made.keys()


@pytest.mark.skipif(not PROC, reason="finds processes in /proc")
def test_a_terminated_run_leaves_no_cluster_and_the_pool_goes_on(
    run: Run, work: Work, ray_folder: str, tmp_path: Path
) -> None:
    names = [f"{number:02d}" for number in range(5)]
    first = render(tmp_path / f"in/{names[0]}.mp4", frames=300)
    for name in names[1:]:
        shutil.copy(first, tmp_path / f"in/{name}.mp4")
    out, manifest = tmp_path / "out", tmp_path / "out/manifest.jsonl"
    line = command(PREPROCESS, "--config", work.config, "--input", tmp_path / "in", "--output", out, *RAY)
    process = subprocess.Popen(
        [*line, NUMBER, "1"],
        env={**os.environ, **ENVIRONMENT, "RAY_TMPDIR": ray_folder},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    until(lambda: process.poll() is not None or is_filled(manifest))
    process.send_signal(signal.SIGTERM)
    said, err = process.communicate(timeout=60)
    assert (process.returncode, said, "Traceback" in err) == (143, "", False), err
    done, files = manifest_of(out), files_below(out, "*.hdf5")
    assert 1 <= len(done) < len(names)
    assert files_below(out).keys() == {*files, "config.yaml", "manifest.jsonl"}
    until(lambda: not processes_that_name(ray_folder))

    again = preprocess(run, work, out, source=tmp_path / "in")
    assert again.status == 0 and f"{len(names) - len(done)} done" in again.out
    assert list(manifest_of(out)) == names
    after = files_below(out, "*.hdf5")
    kept = {f"{clip}.hdf5" for clip in done}
    assert kept <= files.keys() and {name: after[name] for name in kept} == {
        name: files[name] for name in kept
    }


def processes_that_name(text: str) -> list[str]:
    """Command lines, of all processes that run, that hold ``text``."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return [line.decode(errors="replace") for line in lines if text.encode() in line]
