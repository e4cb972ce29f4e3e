"""Renders episodes of Meta-World's scripted policies as a LeRobotDataset v3, for ``evaluate probe``.

    python -m venv metaworld_venv && metaworld_venv/bin/pip install metaworld av pyarrow pandas packaging
    MUJOCO_GL=osmesa metaworld_venv/bin/python benchmarks/metaworld_episodes.py --output episodes
        [--tasks drawer-open-v3 ...] [--episodes 20] [--steps 100] [--camera corner2] [--side 240] [--seed 0]

Meta-World pins libraries of its own, so this runs in an environment of its own and imports nothing of the
package. Rendering needs OSMesa (``apt-get install libosmesa6``) or, with ``MUJOCO_GL=egl``, a GPU's EGL.

A frame is one step of the policy, from before its action. Simulated are 80 steps a second; the data set says
20 frames a second, LIBERO's rate, so it plays at a quarter of the simulated speed and the shipped tokenizers
take every step. Shadows and reflections are off, which more than doubles the speed of OSMesa. An episode ends
``AFTER`` steps after its task succeeded, or after ``--steps``.

Features: ``observation.images.<camera>`` (video), ``observation.state`` (x, y, z of the hand in metres, and
how far the gripper is open, 0 to 1), ``action`` (x, y, z that the hand is to move by, -1 to 1, and the force
that closes the gripper), ``next.success``.
"""

import argparse
import gc
import json
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import metaworld
import mujoco
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

TASKS = (
    "reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "button-press-v3",
    "window-open-v3", "faucet-open-v3", "plate-slide-v3", "handle-pull-v3",
)  # fmt: skip
FPS = 20
AFTER = 10
STATE = ("x", "y", "z", "gripper")
TURNED = ("corner", "corner2", "corner3", "corner4")
"""Cameras that Meta-World hangs upside down."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


class Step(NamedTuple):
    """A step of a policy."""

    frame: NDArray[np.uint8]
    """(H, W, 3) RGB, before the action."""
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    success: bool
    """Whether the task had succeeded after the action."""


def make_env(task: str, camera: str, side: int, seed: int) -> tuple[Any, Sequence[Any]]:
    """The task's environment, without shadows and reflections, and 50 placements of its objects."""
    benchmark = metaworld.MT1(task, seed=seed)
    env = benchmark.train_classes[task](render_mode="rgb_array", camera_name=camera, width=side, height=side)
    env.set_task(benchmark.train_tasks[0])
    env.reset()
    env.render()
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        env.mujoco_renderer.viewer.scn.flags[flag] = 0
    return env, benchmark.train_tasks


def picture(env: Any, turned: bool) -> NDArray[np.uint8]:
    """The camera's frame (H, W, 3) RGB, upright.

    Raises:
        RuntimeError: nothing was drawn, as where the rendering context is lost.
    """
    frame = env.render()
    if frame.min() == frame.max():
        raise RuntimeError("the frame is of one colour: nothing was rendered; try another MUJOCO_GL")
    return np.ascontiguousarray(frame[::-1, ::-1] if turned else frame)


def run_episode(env: Any, placement: Any, task: str, turned: bool, most: int) -> Iterator[Step]:
    """The steps of the task's scripted policy from one placement of the objects on."""
    env.set_task(placement)
    observation, _ = env.reset()
    policy, left = ENV_POLICY_MAP[task](), most
    while left:
        frame = picture(env, turned)
        action = np.clip(policy.get_action(observation), -1, 1).astype(np.float32)
        state = observation[: len(STATE)].astype(np.float32)
        observation, _, _, _, info = env.step(action)
        success = bool(info["success"])
        left = min(left - 1, AFTER) if success else left - 1
        yield Step(frame, state, action, success)


def run_task(task: str, flags: argparse.Namespace) -> Iterator[list[Step]]:
    """The episodes of a task, one for each placement of its objects."""
    env, placements = make_env(task, flags.camera, flags.side, flags.seed)
    for placement in placements[: flags.episodes]:
        yield list(run_episode(env, placement, task, flags.camera in TURNED, flags.steps))
    env.close()


class Writer:
    """Writes all episodes into one mp4 and one table.

    Args:
        root: the data set's folder, which is not there yet.
        camera: the name of its only camera.
        side: of the frames, in pixels.
        tasks: names, by the order of ``task_index``.
    """

    def __init__(self, root: Path, camera: str, side: int, tasks: Sequence[str]) -> None:
        self.root, self.key, self.side, self.tasks = root, f"observation.images.{camera}", side, tasks
        self.rows: list[dict[str, Any]] = []
        self.episodes: list[dict[str, Any]] = []
        path = root / VIDEO.format(video_key=self.key, chunk_index=0, file_index=0)
        for folder in (path.parent, root / "meta/episodes/chunk-000", root / "data/chunk-000"):
            folder.mkdir(parents=True)
        self._container = av.open(str(path), "w")
        self._stream: Any = self._container.add_stream(
            "libx264", rate=Fraction(FPS), options={"crf": "16", "preset": "veryfast", "g": "16"}
        )
        self._stream.width = self._stream.height = side
        self._stream.pix_fmt = "yuv420p"

    def add(self, steps: Sequence[Step], task: int) -> None:
        """Writes an episode."""
        first, number = len(self.rows), len(self.episodes)
        for index, step in enumerate(steps):
            frame = av.VideoFrame.from_ndarray(step.frame, "rgb24")
            self._container.mux(self._stream.encode(frame))
            self.rows.append(
                {
                    "observation.state": step.state,
                    "action": step.action,
                    "next.success": step.success,
                    "timestamp": index / FPS,
                    "frame_index": index,
                    "episode_index": number,
                    "index": first + index,
                    "task_index": task,
                }
            )
        places = {"chunk_index": 0, "file_index": 0}
        times = {"from_timestamp": first / FPS, "to_timestamp": len(self.rows) / FPS}
        self.episodes.append(
            {
                "episode_index": number,
                "tasks": [self.tasks[task]],
                "length": len(steps),
                "dataset_from_index": first,
                "dataset_to_index": len(self.rows),
                **{f"data/{name}": value for name, value in places.items()},
                **{f"videos/{self.key}/{name}": value for name, value in (places | times).items()},
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )

    def finish(self) -> None:
        """Writes the tables, and ``meta/info.json`` last, without which there is no data set."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        kinds: dict[str, Any] = {"next.success": pa.bool_(), "timestamp": pa.float32()}
        kinds |= dict.fromkeys(("observation.state", "action"), pa.list_(pa.float32(), len(STATE)))
        arrays = {name: pa.array(values, kinds.get(name, pa.int64())) for name, values in columns.items()}
        pq.write_table(pa.table(arrays), self.root / DATA.format(chunk_index=0, file_index=0))
        episodes = pa.Table.from_pylist(self.episodes)
        pq.write_table(episodes, self.root / "meta/episodes/chunk-000/file-000.parquet")
        tasks = pd.DataFrame({"task_index": range(len(self.tasks))}, index=list(self.tasks))
        tasks.to_parquet(self.root / "meta/tasks.parquet")
        stats = {name: statistics(np.stack(columns[name])) for name in ("observation.state", "action")}
        write_json(self.root / "meta/stats.json", stats)
        write_json(self.root / "meta/info.json", self._info())

    def _info(self) -> dict[str, Any]:
        shape = [self.side, self.side, 3]
        video = {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"]}
        features: dict[str, Any] = {self.key: video | {"info": {"video.fps": FPS, "video.codec": "h264"}}}
        for name in ("observation.state", "action"):
            features[name] = {"dtype": "float32", "shape": [len(STATE)], "names": list(STATE)}
        scalars = {"next.success": "bool", "timestamp": "float32"}
        for name in (*scalars, "frame_index", "episode_index", "index", "task_index"):
            features[name] = {"dtype": scalars.get(name, "int64"), "shape": [1], "names": None}
        return {
            "codebase_version": "v3.0",
            "robot_type": "sawyer",
            "fps": FPS,
            "features": features,
            "total_episodes": len(self.episodes),
            "total_frames": len(self.rows),
            "total_tasks": len(self.tasks),
            "chunks_size": 1000,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 500,
            "splits": {"train": f"0:{len(self.episodes)}"},
            "data_path": DATA,
            "video_path": VIDEO,
        }


def statistics(values: NDArray[np.float32]) -> dict[str, list[float]]:
    """Of values (F, D), by number."""
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {name: each.tolist() for name, each in found.items()} | {"count": [len(values)]}


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--camera", default="corner2")
    parser.add_argument("--side", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(argv)
    begun, succeeded = time.process_time(), 0
    writer = Writer(flags.output, flags.camera, flags.side, flags.tasks)
    for number, task in enumerate(flags.tasks):
        for steps in run_task(task, flags):
            succeeded += any(step.success for step in steps)
            writer.add(steps, number)
        # Now, as what the last task drew with, freed while the next draws, would take its pictures along.
        gc.collect()
        print(f"{task}: {len(writer.episodes)} episodes, {len(writer.rows)} frames so far", flush=True)
    writer.finish()
    seconds = time.process_time() - begun
    print(
        f"{len(writer.episodes)} episodes, {succeeded} of which succeeded; {len(writer.rows)} frames, "
        f"{len(writer.rows) / seconds:.1f} a second of CPU time"
    )


if __name__ == "__main__":
    main()
