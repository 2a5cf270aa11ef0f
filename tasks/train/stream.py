"""Photos that do not fit into memory: a window of them at full size, moved on in rotation while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.camera import Camera
from tasks.train.pixel_bank import (
    BYTES_A_PIXEL,
    Photo,
    Pixels,
    Rig,
)

TURN_EVERY = 16
"""Steps after which the oldest photo of the window gives way to the next one."""


SURVEYED = 64
"""Photos that figures are taken from."""


class StreamBank(Rig):
    """As PixelBank, with a few photos in memory: at each step (`turn_to`) those that the seed and the step name.

    Photos come in one random order, again and again; a second thread reads the next one ahead.

    Args:
        cameras, c2f: as PixelBank's.
        read: the photo of a number, at the size its camera says.
        masked: whether any photo has a mask.
        memory_gb: room for the window; it holds two photos at least.
        seed: of the order.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        c2f: npt.NDArray[np.float64],
        read: Callable[[int], Photo],
        masked: bool,
        memory_gb: float,
        seed: int,
        device: str,
    ) -> None:
        super().__init__(cameras, c2f, device)
        self.masked = masked
        self._read = read
        self._counts = self.starts.diff()
        self._room = int(self._counts.max())
        self.window = min(self.photos, max(2, int(memory_gb * 1e9 / (BYTES_A_PIXEL * self._room))))
        self._order = torch.randperm(self.photos, generator=torch.Generator().manual_seed(seed)).tolist()
        self._rgb = torch.zeros(self.window * self._room, 3, dtype=torch.uint8, device=device)
        self._mask = torch.zeros(self.window * self._room, dtype=torch.uint8, device=device)
        self._slot_of = torch.full((self.photos,), -1, dtype=torch.int64, device=device)
        self._in_slot: list[int | None] = [None] * self.window
        self._reader = ThreadPoolExecutor(1, "photos")
        self._ahead: dict[int, Future[Photo]] = {}

    @property
    def resident(self) -> Tensor:
        """[P] bool, the photos in memory."""
        return self._slot_of >= 0

    def turn_to(self, step: int) -> None:
        """Hold the photos of that step of training."""
        turn = step // TURN_EVERY
        wanted = {place % self.window: self._order[place % self.photos] for place in range(turn, turn + self.window)}
        if self.window == self.photos:
            wanted = dict(enumerate(self._order))
        if all(self._in_slot[slot] == photo for slot, photo in wanted.items()):
            return
        for slot, photo in wanted.items():
            if self._in_slot[slot] != photo:
                self._fill(slot, photo)
        following = self._order[(turn + self.window) % self.photos]
        if following not in wanted.values() and following not in self._ahead:
            self._ahead[following] = self._reader.submit(self._read, following)

    def _fill(self, slot: int, photo: int) -> None:
        waiting = self._ahead.pop(photo, None)
        rgb, mask = self._read(photo) if waiting is None else waiting.result()
        if (gone := self._in_slot[slot]) is not None and self._slot_of[gone] == slot:
            self._slot_of[gone] = -1
        part = slice(slot * self._room, slot * self._room + rgb.shape[0] * rgb.shape[1])
        self._rgb[part] = torch.from_numpy(rgb).view(-1, 3).to(self._rgb.device)
        self._mask[part] = 255 if mask is None else torch.from_numpy(mask).view(-1).to(self._mask.device)
        self._slot_of[photo], self._in_slot[slot] = slot, photo

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] int64 numbers of random pixels of the photos in memory."""
        held = self.resident.nonzero()[:, 0]
        ends = self._counts[held].cumsum(0)
        pick = torch.randint(int(ends[-1]), (count,), generator=generator, device=self.starts.device)
        which = torch.bucketize(pick, ends, right=True)
        return self.starts[held[which]] + pick - (ends - self._counts[held])[which]

    def take(self, index: Tensor) -> Pixels:
        """The pixels of numbers [R] int64, all of photos in memory."""
        photo, local = self.place(index)
        at = self._slot_of[photo] * self._room + local
        rgb, alpha = self._rgb.index_select(0, at).float() / 255.0, self._mask[at].float() / 255.0
        return Pixels(*self.rays(photo, local), rgb, alpha, photo, index)

    def survey(self, count: int, generator: torch.Generator) -> Pixels:
        """`count` pixels of SURVEYED photos, read one after the other; the generator is a CPU's."""
        photos = self._order[:SURVEYED]
        parts = []
        for number, photo in enumerate(photos):
            rgb, mask = self._read(photo)
            share = count // len(photos) + (number < count % len(photos))
            local = torch.randint(rgb.shape[0] * rgb.shape[1], (share,), generator=generator)
            colours = torch.from_numpy(rgb.reshape(-1, 3))[local].float() / 255.0
            alpha = torch.ones(share) if mask is None else torch.from_numpy(mask.ravel())[local].float() / 255.0
            device = self.starts.device
            which, local = torch.full((share,), photo, device=device), local.to(device)
            rays = self.rays(which, local)
            parts.append(Pixels(*rays, colours.to(device), alpha.to(device), which, self.starts[photo] + local))
        return Pixels(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()
