# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

from trl.trainer.utils import RepeatSampler


class EpochSampler(RepeatSampler):
    """
    TRL's sampler of prompts, in an order that depends on the seed and the epoch alone.

    The parent's generator goes on from epoch to epoch, so a run resumed in the second epoch would see the prompts of
    the first once more. The `Trainer` calls `set_epoch` before each epoch, resumed or not.
    """

    @classmethod
    def like(cls, sampler: RepeatSampler) -> "EpochSampler":
        """With the settings of another sampler."""
        return cls(
            data_source=sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
        )

    def set_epoch(self, epoch: int) -> None:
        if self.shuffle and self.seed is not None:
            self.generator.manual_seed(self.seed + epoch)
