"""Time and memory that training a field of a hash encoding takes. Light: no torch."""

from __future__ import annotations

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from models.stage import Inputs
from tasks.train.options import HashFieldOptions

FIELD_LADDER = Ladder(
    memory={
        "photo_memory_gb": Lower(factor=0.5, least=0.25),
        "samples_per_step": Lower(factor=0.5, least=1 << 13),
        "log2_table": Lower(minus=1, least=15),
    },
    disk={"log2_table": Lower(minus=2, least=15)},
    time={"steps": Lower(factor=0.5, least=500)},
)
"""What a step down lowers."""

SAMPLES_PER_S = 1.1e6
"""Training samples a second on two CPU cores with 10 levels."""


def _table_gb(options: HashFieldOptions) -> float:
    return options.levels * float(1 << options.log2_table) * 2 * 4 / 1e9


def field_inputs(options: HashFieldOptions) -> Inputs:
    """The poses, and the dense stage's files: always, where they are there, or never."""
    if options.dense_prior is True:
        return Inputs(required=("pose", "dense"))
    return Inputs(required=("pose",), optional=("dense",) if options.dense_prior else ())


def field_resources(options: HashFieldOptions) -> Resources:
    """What the stage needs, for captures whose photos fill the photo memory at most."""
    expected = field_estimate(options, photos=0, megapixels=0.0)
    return Resources(
        cpus=2,
        gpu_memory_gb=max(4.0, expected.memory_gb),
        memory_gb=expected.memory_gb + options.photo_memory_gb / 2,
        scratch_gb=1.0 + 8 * _table_gb(options),
        timeout_s=max(3600.0, 6 * expected.seconds),
    )


def field_estimate(options: HashFieldOptions, photos: int, megapixels: float) -> Estimate:
    """Expected seconds on two cores and peak memory for `photos` of `megapixels` each."""
    work = options.steps * options.samples_per_step * (0.4 + 0.06 * options.levels)
    seconds = work / SAMPLES_PER_S if options.seconds is None else min(options.seconds, work / SAMPLES_PER_S)
    pixels = min(photos * megapixels * 4e-3, options.photo_memory_gb)
    # A sample keeps 8 corners of 8 bytes a level and about 2 kB of activations; the table has its gradient, two
    # moments and a snapshot of three of these; its mean comes twice as well.
    samples = options.samples_per_step * (options.levels * 64 + 2500) * 2e-9
    tables = (10 if options.average else 8) * _table_gb(options)
    return Estimate(seconds=20.0 + 0.05 * photos + seconds, memory_gb=0.8 + pixels * 2 + samples + tables)
