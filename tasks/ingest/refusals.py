"""Errors about single photos that several decoders share."""

from __future__ import annotations

from models.errors import DigitizeError, ReasonCode


def image_bomb(name: str, max_pixels: int, found: str) -> DigitizeError:
    """A header that claims too many pixels."""
    return DigitizeError(
        ReasonCode.IMAGE_BOMB, f"expected at most {max_pixels} pixels, the header says {found}", path=name
    )


def undecodable(name: str, found: str, expected: str = "a whole image file") -> DigitizeError:
    """A file that is damaged or of no kind that is known.

    Args:
        found: part of committed results: it must not tell where this machine keeps the file.
    """
    return DigitizeError(ReasonCode.UNDECODABLE, f"expected {expected}, found: {found[:160]}", path=name)


def colour_unsolved(name: str, message: str, hint: str = "") -> DigitizeError:
    """A photo that does not tell the colours of its capture."""
    return DigitizeError(ReasonCode.COLOUR_UNSOLVED, message, hint, path=name)
