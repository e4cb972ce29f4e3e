"""Which windows each step of an epoch takes, in each process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

PADDING = -1
"""Index of a window that fills a batch and counts for nothing."""


class EpochWindows(list[int]):
    """Indices of windows, and the epoch that takes them, which decides how they are augmented.

    The epoch goes with them because loader workers hold copies of the data set that outlive epochs.
    """

    def __init__(self, indices: Iterable[int], epoch: int) -> None:
        super().__init__(indices)
        self.epoch = epoch


class EpochSampler(Sampler[list[int]]):
    """Lists of window indices for one process: the micro-batches of an epoch's steps, in order.

    A step takes ``batch_size * accumulation * processes`` windows of the epoch's order, dealt to
    micro-batches and then to processes, so that one process with twice the batch sees the same
    windows in a step as two processes. Each window is seen once per epoch: the last step is
    smaller, and a process that gets nothing in it gets one PADDING window.

    Args:
        num_windows: size of the data set.
        batch_size: windows of one micro-batch of one process.
        accumulation: micro-batches of a step.
        rank: this process.
        processes: number of processes.
        seed: with the epoch, decides the order.
        shuffle: False keeps the order of the data set.
    """

    def __init__(
        self,
        num_windows: int,
        batch_size: int,
        *,
        accumulation: int = 1,
        rank: int = 0,
        processes: int = 1,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.num_windows = num_windows
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.rank = rank
        self.processes = processes
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self.first_step = 0

    @property
    def windows_per_step(self) -> int:
        """Windows of a full step, over all processes."""
        return self.batch_size * self.accumulation * self.processes

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return -(-self.num_windows // self.windows_per_step)

    def windows_in(self, step: int) -> int:
        """Windows of ``step`` of an epoch, from 0, over all processes: the last step may have fewer."""
        return min(self.windows_per_step, self.num_windows - step * self.windows_per_step)

    def set_position(self, epoch: int, first_step: int = 0) -> None:
        """The next iteration yields ``epoch`` from its step ``first_step`` on."""
        self.epoch, self.first_step = epoch, first_step

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(num_windows,) the windows of an epoch in the order of its steps."""
        if not self.shuffle:
            return np.arange(self.num_windows)
        return np.random.default_rng((self.seed, epoch)).permutation(self.num_windows)

    def step_windows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The windows that all processes together take in ``step`` of ``epoch``, both from 0."""
        return self.order(epoch)[step * self.windows_per_step : (step + 1) * self.windows_per_step]

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(self.epoch)
        for step in range(self.first_step, self.steps):
            windows = order[step * self.windows_per_step : (step + 1) * self.windows_per_step]
            shares = np.array_split(windows, self.accumulation * self.processes)
            for micro in range(self.accumulation):
                share = shares[micro * self.processes + self.rank]
                yield EpochWindows(share.tolist() or [PADDING], self.epoch)

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulation
