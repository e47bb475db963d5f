"""The endless sequence of samples that a run learns from.

Sample number n is the same whenever and wherever it is asked for: nothing but the seed and n decide
it. A run that goes on at n therefore sees what it would have seen, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .records import DatasetError, read_image
from .samples import OfficialPictures, OfficialSample, Sample, TrainingPictures

BLOCK = 1000  # samples in which every dataset has its exact share
LEAST_SHARE = 0.01 - 1e-9  # what adds up to 1 in decimals adds up to a bit more in binary
POOL = 32  # steps whose samples are sorted by the size of their pictures


class Mixture(Dataset[Sample | OfficialSample]):
    """Samples of several datasets in random order, every dataset by its share.

    Each dataset is gone through epoch by epoch, in a new order each time.

    Args:
        sources: the datasets.
        shares: how many samples come from each, relative to each other; at least 1 % each.
        seed: of the order and of all that is random in a sample.
    """

    def __init__(
        self,
        sources: Sequence[TrainingPictures | OfficialPictures],
        shares: Sequence[float],
        seed: int,
    ) -> None:
        for number, source in enumerate(sources):
            if not len(source):
                raise DatasetError(f"dataset {number + 1} of {len(sources)} has nothing to learn")
        self.sources, self.seed = sources, seed
        self.shares = np.array(shares) / sum(shares)
        if self.shares.min() < LEAST_SHARE:
            raise DatasetError("every dataset needs a share of at least 1 % of the pictures")
        self.starts = np.cumsum([0, *map(len, sources)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, number: int) -> Sample | OfficialSample:
        source, index = self.place(number)
        sample = self.sources[source].sample(index, _rng(self.seed, 0, number))
        sample.index += int(self.starts[source])
        return sample

    def whole(self, index: int) -> Tensor:
        """The picture of samples with this ``index``, (3, H, W) uint8 RGB at its own size.
        DatasetError if it cannot be read."""
        source = int(np.searchsorted(self.starts, index, "right")) - 1
        pictures = self.sources[source]
        assert isinstance(pictures, TrainingPictures)
        record = pictures.records[index - int(self.starts[source])]
        return torch.from_numpy(np.ascontiguousarray(read_image(record).transpose(2, 0, 1)))

    def place(self, number: int) -> tuple[int, int]:
        """Which dataset sample ``number`` comes from, and which of its pictures it is."""
        block, slot = divmod(number, BLOCK)
        shares = tuple(self.shares.tolist())
        source, count = (int(array[slot]) for array in _block(self.seed, shares, block))
        size = len(self.sources[source])
        epoch, index = divmod(count, size)
        return source, int(_epoch(self.seed, source, epoch, size)[index])

    def shape(self, number: int) -> tuple[int, int]:
        """Height and width of the picture of sample ``number``, without padding."""
        source, index = self.place(number)
        return self.sources[source].shape(index)

    def no_target_prior(self, samples: int = 2000) -> float:
        """Share of expressions that mean nothing, among the first ``samples`` samples."""
        empty = []
        for number in range(samples):
            source, index = self.place(number)
            empty += self.sources[source].said(index, _rng(self.seed, 0, number)).empty
        return float(np.mean(empty))


@lru_cache(8)
def _block(seed: int, shares: tuple[float, ...], block: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every slot the dataset, and how many samples of that dataset came before it."""
    start, end = (np.floor(np.cumsum(shares) * BLOCK * n + 0.5) for n in (block, block + 1))
    before = np.diff(start, prepend=0).astype(int)
    each = np.diff(end, prepend=0).astype(int) - before
    source = np.repeat(np.arange(len(each)), each)
    _rng(seed, 1, block).shuffle(source)
    count = np.empty_like(source)
    for number, first in enumerate(before):
        mine = source == number
        count[mine] = first + np.arange(mine.sum())
    return source, count


@lru_cache(32)
def _epoch(seed: int, source: int, epoch: int, size: int) -> np.ndarray:
    return _rng(seed, 2, source, epoch).permutation(size)


def _rng(seed: int, *path: int) -> np.random.Generator:
    return np.random.default_rng([seed, *path])


def batch_numbers(
    pictures: Mixture, size: int, first: int, every: int, step: int
) -> Iterator[list[int]]:
    """Numbers of the samples of batches ``first``, ``first + every``, ... of ``size`` each, of
    which ``step`` make a step.

    Pictures of a batch are padded alike, and who computes one batch of a step waits for those who
    compute the others; so a step's pictures are of like size, as far as its pool of :data:`POOL`
    steps has them. Which step of a pool comes when is random.
    """
    batch = first
    while True:
        pool, place = divmod(batch, POOL * step)
        yield list(_pool(pictures, size, step, pool)[place])
        batch += every


@lru_cache(2)
def _pool(pictures: Mixture, size: int, step: int, pool: int) -> list[tuple[int, ...]]:
    """All batches of a pool."""
    count = POOL * step * size
    numbers = sorted(range(pool * count, (pool + 1) * count), key=pictures.shape)
    batches = [tuple(numbers[i : i + size]) for i in range(0, count, size)]
    order = _rng(pictures.seed, 3, pool).permutation(POOL)
    return [batches[k * step + i] for k in order for i in range(step)]
