"""The training engine: kernels against the machine's limits and eager torch, whole trainers side by side.

    python -m bench.engine                      everything, about half an hour; 50 minutes with the peer
    python -m bench.engine --only kernels       parts: kernels, analytic, lego, capture; several with commas
    python -m bench.engine --quick              a few seconds a part: shows that the script works
    python -m bench.engine --peer-python PEER/bin/python    also the peer, bench/peers/tensorf.py, by its interpreter

Needs torch, numpy, pillow, safetensors and pydantic alone. `--data` holds `posed_lego_400` and, for `capture`, folders
with the outputs of a pose stage named `pose_*`; what is not there is `not measured`. Uses a GPU where there is one. The
last line is one JSON object; `--out FOLDER` also keeps it, with a plot.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as flows/runner/stage_process.py

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

PARTS = ("kernels", "analytic", "lego", "capture")
COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#7d3c98", "#b9770e", "#515a5a", "#d98880")


def child(*arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON on the last line of `python -m ...`."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def kernels(quick: bool) -> dict[str, Any]:
    """Every build of the CPU kernels that this machine runs, on all cores; eager torch beside them."""
    from models.fields.kernels import cpu

    if not cpu.available():
        return {}
    found = {}
    for build in cpu.BUILDS:
        if cpu.library(build) is not None:
            arguments = ["--quick"] if quick else ["--eager"]
            found[build] = child("bench.engine_kernels", *arguments, DIGITIZE_KERNELS=build)
    return found


def analytic(quick: bool) -> dict[str, Any]:
    """The same trainer on the analytic scene, one thread, CPU seconds: eager, tuned eager, engine."""
    from bench.baselines.eager_trainer import Mode, measure

    found: dict[str, Any] = {}
    modes: tuple[Mode, ...] = ("engine",) if quick else ("engine", "eager_tuned", "eager")
    with tempfile.TemporaryDirectory() as folder:
        for mode in modes:
            seconds = 4.0 if quick else 30.0 if mode == "engine" else 150.0
            found[mode] = measure(mode, seconds, 30.2, Path(folder) / "scene.pt")
            print(json.dumps(found[mode]), flush=True)
    return found


def trainers(scenes: list[tuple[str, str]], seconds: float, data: Path) -> list[dict[str, Any]]:
    """Rows of engine_rows; a row that fails is said, not hidden."""
    rows = []
    for scene, method in scenes:
        try:
            rows.append(child("bench.engine_rows", scene, method, str(seconds), "--data", str(data)))
        except (subprocess.CalledProcessError, json.JSONDecodeError) as error:
            rows.append({"scene": scene, "method": method, "error": str(error)})
    return rows


def peer(python: str | None, seconds: float, data: Path) -> dict[str, Any]:
    """The peer's row by an interpreter that has it; how to make one where there is none."""
    from bench.peers import tensorf

    if not python:
        return {"scene": "lego", "method": tensorf.METHOD, "psnr": "not measured", "to_measure": tensorf.install()}
    script = [python, str(ROOT / "bench" / "peers" / "tensorf.py")]
    try:
        done = subprocess.run(
            [*script, str(seconds), "--data", str(data)], stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, json.JSONDecodeError, IndexError) as error:
        found = {"scene": "lego", "method": tensorf.METHOD, "error": str(error)}
    print(json.dumps(found), flush=True)
    return found


def figures(parts: dict[str, Any]) -> dict[str, Any]:
    """What is claimed, from what was measured in this run; `not measured` otherwise."""
    from bench.peers import tensorf

    found: dict[str, Any] = dict.fromkeys(
        (
            "encode_forward_of_limit",
            "encode_backward_of_limit",
            "mlp_of_limit",
            "mlp_float32_of_limit",
            "encode_vs_eager",
            "samples_vs_eager",
            "seconds_to_30db_vs_eager",
            "memory_vs_eager",
            "lego_psnr",
            "lego_psnr_peer",
        ),
        "not measured",
    )
    if best := next(iter(parts.get("kernels", {}).values()), None):
        for name in ("encode_forward_of_limit", "encode_backward_of_limit", "mlp_of_limit", "mlp_float32_of_limit"):
            found[name] = round(best[name], 3)
        if (ratio := best["encoding"].get("forward_backward_vs_naive")) is not None:
            found["encode_vs_eager"] = round(ratio, 1)
    if "eager" in parts.get("analytic", {}):
        ours, theirs = parts["analytic"]["engine"], parts["analytic"]["eager"]
        found["samples_vs_eager"] = round(ours["samples_per_cpu_s"] / theirs["samples_per_cpu_s"], 1)
        found["memory_vs_eager"] = round(ours["peak_rss_gb"] / theirs["peak_rss_gb"], 3)
        if (mine := ours["cpu_s_to_db"]["30"]) and (other := theirs["cpu_s_to_db"]["30"]):
            found["seconds_to_30db_vs_eager"] = round(other / mine, 1)
    for row in parts.get("lego", []):
        if row["method"] == "hash_density" and "psnr" in row:
            found["lego_psnr"] = row["psnr"]
        if row["method"] == tensorf.METHOD and "psnr" in row:
            found["lego_psnr_peer"] = row["psnr"]
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """PSNR over seconds (logarithmic) as SVG."""
    from math import log

    rows = [row for row in rows if row.get("history")]
    if not rows:
        return
    points = [point for row in rows for point in row["history"]]
    t0, t1 = min(t for t, _ in points), max(t for t, _ in points)
    low, high = min(v for _, v in points) - 1, max(v for _, v in points) + 1

    def place(t: float, value: float) -> str:
        x = 50 + 520 * log(t / t0) / max(log(t1 / t0), 1e-9)
        return f"{x:.1f},{350 - 320 * (value - low) / (high - low):.1f}"

    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="860" height="390" font-family="sans-serif" font-size="12">'
    ]
    lines.append('<rect width="860" height="390" fill="white"/>')
    for level in range(int(low) + 1, int(high) + 1, 2):
        y = place(t0, level).split(",")[1]
        lines.append(f'<path d="M50 {y}H570" stroke="#ddd"/><text x="20" y="{y}">{level}</text>')
    for mark in (1, 3, 10, 30, 100, 300):
        if t0 <= mark <= t1:
            x = place(mark, low).split(",")[0]
            lines.append(f'<path d="M{x} 30V350" stroke="#ddd"/><text x="{x}" y="368">{mark} s</text>')
    for number, row in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        way = " ".join(place(t, value) for t, value in row["history"])
        lines.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{row['scene']} {row['method']} {row['history'][-1][1]} dB"
        lines.append(f'<text x="580" y="{40 + 18 * number}" fill="{colour}">{label}</text>')
    lines.append('<text x="50" y="20">held-out PSNR (dB) over seconds of training</text></svg>')
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each row of lego and capture")
    parser.add_argument("--peer-python", default=os.environ.get("DIGITIZE_PEER_PYTHON"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    seconds = 3.0 if arguments.quick else arguments.seconds
    load = os.getloadavg()[0]
    parts: dict[str, Any] = {}
    if "kernels" in wanted:
        parts["kernels"] = kernels(arguments.quick)
    if "analytic" in wanted:
        parts["analytic"] = analytic(arguments.quick)
    if "lego" in wanted and (arguments.data / "posed_lego_400").is_dir():
        methods = ["hash_density"] if arguments.quick else ["hash_density", "torch", "nerf", "nerf_100px"]
        if has_gpu() and not arguments.quick:
            methods.insert(1, "hash_density_half")
        parts["lego"] = trainers([("lego", method) for method in methods], seconds, arguments.data)
        if not arguments.quick:  # its last evaluation alone takes minutes
            parts["lego"].append(peer(arguments.peer_python, seconds, arguments.data))
    captures = sorted(path.name for path in arguments.data.glob("pose_*")) if arguments.data.is_dir() else []
    if "capture" in wanted and captures:
        parts["capture"] = trainers([(name, "hash_density") for name in captures], seconds, arguments.data)
    result: dict[str, Any] = {"bench": "engine", "figures": figures(parts)}
    if arguments.quick:
        result["quick"] = True
    result |= {"parts": parts, "load_before": round(load, 2), "machine": machine()}
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "engine.json").write_text(json.dumps(result, indent=1) + "\n")
        plot([*parts.get("lego", []), *parts.get("capture", [])], arguments.out / "engine.svg")
    print(json.dumps(result))


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def machine() -> str:
    """The processor, or the GPU where there is one."""
    import torch

    if has_gpu():
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
