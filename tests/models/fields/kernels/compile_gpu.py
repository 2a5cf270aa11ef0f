"""Compiles every Triton kernel for a GPU that need not be there: python compile_gpu.py <compute capability>.

Prints a JSON record of what came out. The interpreter accepts code that the compiler rejects; this is the other half.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.fields.kernels import gpu_adam, gpu_encode, gpu_march, gpu_mlp, gpu_volume

MODULES = (gpu_adam, gpu_encode, gpu_march, gpu_mlp, gpu_volume)
FLOAT = "*fp32"
ALIGNED = [["tt.divisibility", 16]]


class Case(NamedTuple):
    """One way a kernel is launched."""

    kernel: Any
    name: str
    types: dict[str, str]
    """Of the arguments that are not pointers to float32."""
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3


def _cases() -> list[Case]:
    count, rays = {"count": "i32"}, {"rays": "i32"}
    cases = []
    for features in (1, 2, 4, 8):
        for table in ("fp32", "fp16", "bf16") if features == 2 else ("fp32",):
            types = {"table": f"*{table}", "levels": "*i32", **count}
            shape = {"F": features, "BLOCK": gpu_encode.POINTS}
            cases.append(Case(gpu_encode._forward, f"{features} {table}", types, shape))
        types = {"levels": "*i32", "touched": "*u8", **count}
        cases.append(Case(gpu_encode._backward_table, f"{features}", types, {**shape, "MARK": True}))
    types = {"table": "*fp16", "levels": "*i32", **count}
    shape = {"F": 2, "BLOCK": gpu_encode.POINTS}
    cases.append(Case(gpu_encode._backward_table, "unmarked", {"levels": "*i32", **count}, {**shape, "MARK": False}))
    cases.append(Case(gpu_encode._backward_position, "2 fp16", types, {**shape, "LEVELS": 16}))
    for middle in (False, True):
        for precision in ("half", "tf32") if middle else ("half",):
            widths = {"inputs": 32, "hidden": 64, "outputs": 3, "INPUTS": 32, "HIDDEN": 64, "OUTPUTS": 16}
            shape = {**widths, "MIDDLE": middle, "PRECISION": precision}
            name = f"{precision} {2 + middle}"
            points = {"POINTS": gpu_mlp.FORWARD_POINTS}
            cases.append(Case(gpu_mlp._forward, name, count, {**shape, **points}))
            points = {"POINTS": gpu_mlp.BACKWARD_POINTS, "WANT_DX": True}
            cases.append(Case(gpu_mlp._backward, name, count, {**shape, **points}, stages=2))
    types = {"cells": "*u8", "blocks": "*u8", "first": "*i64", "counts": "*i64", "step": "fp32", **rays}
    for write in (False, True):
        shape = {"SIDE": 128, "COARSE": 32, "CASCADES": 3, "SKIP_BLOCKS": True, "WRITE": write, "BLOCK": gpu_march.RAYS}
        cases.append(Case(gpu_march._march, f"{write}", types, shape, warps=1))
    types = {"offsets": "*i64", "step": "fp32", **rays, **count}
    shape = {"BLOCK": gpu_volume.RAYS}
    cases.append(Case(gpu_volume._composite, "", types, shape, warps=1))
    for spread in (False, True):
        cases.append(Case(gpu_volume._composite_backward, f"{spread}", types, {**shape, "SPREAD": spread}, warps=1))
    types = {"offsets": "*i64", "counts": "*i64", "step": "fp32", "threshold": "fp32", **rays}
    cases.append(Case(gpu_volume._visible, "", types, shape, warps=1))
    numbers = ("step_size", "correction2", "beta1", "beta2", "eps", "inverse_scale")
    for shadow in ("fp16", "bf16"):
        types = {"touched": "*u8", "shadow": f"*{shadow}", "blocks": "i32", **dict.fromkeys(numbers, "fp32")}
        shape = {"SPARSE": True, "SHADOW": True, "BLOCKS": gpu_adam.BLOCKS}
        cases.append(Case(gpu_adam._adam, shadow, types, shape))
    types = {"blocks": "i32", **dict.fromkeys(numbers, "fp32")}
    cases.append(Case(gpu_adam._adam, "dense", types, {"SPARSE": False, "SHADOW": False, "BLOCKS": gpu_adam.BLOCKS}))
    return cases


def _compile(case: Case, capability: int, single: bool) -> dict[str, Any]:
    """`single`: for one point, ray or block, whose number a launch makes a constant."""
    names = case.kernel.arg_names
    types = {name: case.types.get(name, FLOAT) for name in names}
    constants = {**case.constants, **({name: 1 for name, kind in types.items() if kind == "i32"} if single else {})}
    types.update(dict.fromkeys(constants, "constexpr"))
    source = ASTSource(
        fn=case.kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(number,): ALIGNED for number, name in enumerate(names) if types[name].startswith("*")},
    )
    options = {"num_warps": case.warps, "num_stages": case.stages, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = compiled.asm["ptx"]
    return {
        "kernel": f"{case.kernel.__module__.rsplit('.')[-1]}.{case.kernel.__name__}",
        "case": case.name + (" single" if single else ""),
        "bytes": len(compiled.asm["cubin"]),
        "shared": compiled.metadata.shared,
        "pair_loads": len(re.findall(r"ld\.global[.a-z0-9:]*\.v2\.b32", ptx)),
        "quad_loads": len(re.findall(r"ld\.global[.a-z0-9:]*\.v4\.b32", ptx)),
        "single_loads": len(re.findall(r"ld\.global[.a-z0-9:]*\.b32 ", ptx))
        - len(re.findall(r"ld\.global.*\.v\d", ptx)),
        "pair_sums": len(re.findall(r"(?:red|atom)\.global[.a-z0-9:]*\.v2\.f32", ptx)),
    }


def _launched() -> set[str]:
    """Kernels that the modules launch, by their source."""
    found = set()
    for module in MODULES:
        text = Path(str(module.__file__)).read_text()
        name = module.__name__.rsplit(".")[-1]
        found |= {f"{name}.{kernel}" for kernel in re.findall(r"^ +(_[a-z_]+)\[.*\]\(", text, re.MULTILINE)}
    return found


def main() -> None:
    capability = int(sys.argv[1])
    cases = _cases()
    records = [_compile(case, capability, False) for case in cases]
    first = {case.kernel: case for case in reversed(cases)}
    records += [_compile(case, capability, True) for case in first.values()]
    print(json.dumps({"version": triton.__version__, "launched": sorted(_launched()), "compiled": records}))


if __name__ == "__main__":
    main()
