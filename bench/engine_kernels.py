"""The CPU kernels against what the machine can do at most, and against eager torch: raw calls, best of several,
median of three such rounds."""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.baselines.eager import Spec, better_eager_encode, naive_encode, random_points, random_table
from models.fields.kernels import cpu, ops
from models.fields.kernels.levels import entries, level_table
from models.malloc import keep_freed_memory

LOG2_TABLE, POINTS, LEVELS = 19, 1 << 17, 16
MLP_POINTS = 1 << 15
NETWORKS = [[(64, 32), (16, 64)], [(64, 32), (64, 64), (3, 64)]]
"""[out, in] of the layers of the density network and of the colour network."""


def best(work: Callable[[], object], repeats: int) -> float:
    """Least wall seconds of several runs; one before them does not count."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def limits(threads: int, repeats: int) -> dict[str, float]:
    """Points a second at 16 levels that gathers and scatters allow, and multiply-add FLOP/s: loops in the library."""
    library = cpu.library()
    assert library is not None
    size = 1 << LOG2_TABLE
    rounds = 1 << 15
    table, own = torch.zeros(size, 2), torch.zeros(threads, size, 2)
    for tensor in (table, own):
        cpu.advise_large_pages(tensor)
        tensor.fill_(0.5)
    at = ctypes.c_void_p
    gather = best(lambda: library.limit_gather(at(table.data_ptr()), size, ctypes.c_int64(rounds)), repeats)
    scatter = best(
        lambda: library.limit_scatter(at(own.data_ptr()), size, threads, ctypes.c_int64(rounds // 4)), repeats
    )
    fma_rounds = 5_000_000
    fma = best(lambda: library.limit_fma(ctypes.c_int64(fma_rounds)), repeats)
    return {
        "gather_points_per_s": rounds * 16 / LEVELS / gather,
        "scatter_points_per_s": threads * (rounds // 4) * 16 / LEVELS / scatter,
        "flops": threads * fma_rounds * 16 * library.digitize_lanes() * 2.0 / fma,
    }


def encoding(threads: int, repeats: int, eager: bool) -> dict[str, float]:
    """Raw forward and backward in points a second; through autograd beside eager torch, as ratios."""
    levels = level_table(LEVELS, 16, 2048, LOG2_TABLE)
    table = (torch.rand(entries(levels), 2) - 0.5).requires_grad_()
    x = random_points(POINTS)
    optimiser = ops.SparseAdam(table)
    d_out = torch.randn(2 * LEVELS, POINTS)
    gradient = optimiser.gradient
    raw = table.detach()
    forward = best(lambda: cpu.encode_forward(x, raw, levels), repeats)
    backward = best(
        lambda: cpu.encode_backward(x, raw, levels, d_out, gradient.values, gradient.touched, False), repeats
    )

    def both() -> None:
        ops.encode(x, table, levels, gradient).backward(d_out.t())  # type: ignore[no-untyped-call]
        optimiser.forget()

    found = {"forward_points_per_s": POINTS / forward, "backward_points_per_s": POINTS / backward}
    whole = best(both, repeats)
    if eager:
        spec = Spec(LOG2_TABLE)
        own = random_table(spec).requires_grad_()
        for name, encode in (("naive", naive_encode), ("tuned", better_eager_encode)):

            def theirs(encode: Callable[..., torch.Tensor] = encode) -> None:
                own.grad = None
                encode(x, own, spec).backward(d_out.t())  # type: ignore[no-untyped-call]

            start = time.perf_counter()
            with torch.no_grad():
                encode(x, own, spec)
            found[f"forward_vs_{name}"] = (time.perf_counter() - start) / forward
            found[f"forward_backward_vs_{name}"] = best(theirs, 2) / whole
    return found


def networks(repeats: int, precision: cpu.Precision) -> dict[str, float]:
    """Forward and backward of both networks: useful FLOP/s (6 a weight and point)."""
    work = 0.0
    total = 0.0
    for shapes in NETWORKS:
        weights = [torch.randn(*shape) * shape[1] ** -0.5 for shape in shapes]
        x, dy = torch.randn(shapes[0][1], MLP_POINTS), torch.randn(shapes[-1][0], MLP_POINTS)

        def both(w: list[torch.Tensor] = weights, x: torch.Tensor = x, dy: torch.Tensor = dy) -> None:
            _, hidden = cpu.mlp_forward(x, w, True, precision)
            assert hidden is not None
            cpu.mlp_backward(x, w, hidden, dy, True, precision)

        total += best(both, repeats)
        work += 6.0 * MLP_POINTS * sum(o * i for o, i in shapes)
    return {"flops": work / total, "points_per_s": MLP_POINTS / total}


def once(threads: int, repeats: int, eager: bool) -> dict[str, Any]:
    """The limits and, right after them, what is held against them."""
    limit, hash_encoding = limits(threads, repeats), encoding(threads, repeats, eager)
    mlp, exact = networks(repeats, "half"), networks(repeats, "ieee")
    return {
        "limits": limit,
        "encoding": hash_encoding,
        "networks": mlp,
        "networks_float32": exact,
        "encode_forward_of_limit": hash_encoding["forward_points_per_s"] / limit["gather_points_per_s"],
        "encode_backward_of_limit": hash_encoding["backward_points_per_s"] / limit["scatter_points_per_s"],
        "mlp_of_limit": mlp["flops"] / limit["flops"],
        "mlp_float32_of_limit": exact["flops"] / limit["flops"],
    }


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number over the rounds; ratios were formed within a round."""
    found: dict[str, Any] = {}
    for name, value in rounds[0].items():
        column = [each[name] for each in rounds]
        found[name] = medians(column) if isinstance(value, dict) else statistics.median(column)
    return found


def measure(threads: int, repeats: int, rounds: int, eager: bool) -> dict[str, Any]:
    """All of it, as JSON values: medians over rounds, because a shared machine changes from minute to minute."""
    torch.set_num_threads(threads)
    cpu.set_threads(threads)
    library = cpu.library()
    every = [once(threads, repeats, eager) for _ in range(rounds)]
    spread = {
        name: [round(each[name], 3) for each in every] for name, value in every[0].items() if isinstance(value, float)
    }
    return {
        "build": "none" if library is None else str(library._name).rsplit("_cpu_", 1)[-1].split(".")[0],
        "threads": threads,
        **medians(every),
        "rounds": spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--eager", action="store_true", help="eager torch beside it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    keep_freed_memory()
    repeats, rounds = (2, 1) if arguments.quick else (7, 3)
    print(json.dumps(measure(arguments.threads, repeats, rounds, arguments.eager)))


if __name__ == "__main__":
    main()
