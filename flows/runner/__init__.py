"""Where a stage runs: in a child process here, or on a node of a Ray cluster. The only package that knows Ray."""

from flows.runner.base import Runner, make_runner
from flows.runner.inline import InlineRunner
from flows.runner.ray_runner import RayRunner

__all__ = ["InlineRunner", "RayRunner", "Runner", "make_runner"]
