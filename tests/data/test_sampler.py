"""Which windows each step takes, in each process."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer.data.sampler import PADDING, EpochSampler

Write = Callable[..., Path]


@given(
    windows=st.integers(1, 60),
    batch=st.integers(1, 5),
    accumulation=st.integers(1, 3),
    processes=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_every_window_once_per_epoch_and_steps_alike_on_any_number_of_processes(
    windows: int, batch: int, accumulation: int, processes: int, epoch: int
) -> None:
    def micro_batches(batch: int, accumulation: int, processes: int) -> list[list[list[int]]]:
        samplers = [
            EpochSampler(windows, batch, accumulation=accumulation, rank=rank, processes=processes, seed=5)
            for rank in range(processes)
        ]
        for sampler in samplers:
            sampler.set_position(epoch)
        assert len({len(list(sampler)) for sampler in samplers}) == 1
        return [list(sampler) for sampler in samplers]

    def steps(batch: int, accumulation: int, processes: int) -> list[set[int]]:
        shares = micro_batches(batch, accumulation, processes)
        count = len(shares[0]) // accumulation
        return [
            {
                index
                for share in shares
                for micro in share[step * accumulation : (step + 1) * accumulation]
                for index in micro
                if index != PADDING
            }
            for step in range(count)
        ]

    seen = [i for share in micro_batches(batch, accumulation, processes) for m in share for i in m]
    real = [index for index in seen if index != PADDING]
    assert sorted(real) == list(range(windows))
    assert steps(batch, accumulation, processes) == steps(batch * accumulation * processes, 1, 1)


def test_sampler_goes_on_from_a_step_and_shuffles_by_epoch() -> None:
    sampler = EpochSampler(20, 3, accumulation=2, seed=1)
    whole = list(sampler)
    sampler.set_position(0, first_step=2)
    assert list(sampler) == whole[4:]
    assert len(sampler) == len(whole) - 4
    sampler.set_position(1)
    assert list(sampler) != whole
