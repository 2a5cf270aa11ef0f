"""How far every asset of a batch has got: each asset's commits are followed once, for all that a command does then."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flows.plan.committed import AssetPlan, BatchPlan
from flows.plan.walk import Walk, walk
from models.results import RejectedChain
from models.stage import Stage
from models.store import Store

_LOOKUPS = 16
"""Assets looked up at once: on S3 each lookup waits for the server."""


class Walks(Mapping[str, Walk]):
    """The walks of a batch by asset, in the plan's order.

    Commits list every file of a stage with its hash: a walk takes a fraction of a megabyte, and a batch may have
    thousands. So they are kept packed.
    """

    def __init__(self, plan: BatchPlan, store: Store) -> None:
        def look(asset: AssetPlan) -> _Packed:
            return _Packed.of(walk(asset, store))

        with ThreadPoolExecutor(_LOOKUPS) as pool:
            found = pool.map(look, plan.assets)
        self._packed = {asset.id: each for asset, each in zip(plan.assets, found, strict=True)}

    def __getitem__(self, asset: str) -> Walk:
        return self._packed[asset].unpack()

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def is_open(self, asset: str) -> bool:
        """Whether anything is left to do."""
        return self._packed[asset].open


@dataclass(frozen=True)
class _Packed:
    plan: AssetPlan
    tried: tuple[RejectedChain, ...]
    others: bool
    open: bool
    stages: tuple[Stage, ...]
    dones: bytes | None

    @staticmethod
    def of(found: Walk) -> _Packed:
        dones = zlib.compress(pickle.dumps(list(found.done.values())), 1) if found.done else None
        return _Packed(found.plan, found.tried, found.others, found.request is not None, tuple(found.done), dones)

    def unpack(self) -> Walk:
        dones = [] if self.dones is None else pickle.loads(zlib.decompress(self.dones))
        found = Walk(self.plan, dict(zip(self.stages, dones, strict=True)), tried=self.tried, others=self.others)
        found.request = found.next_request if self.open else None
        return found
