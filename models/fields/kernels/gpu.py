"""The GPU backend: Triton kernels for CUDA tensors.

Tensors lie on the current CUDA device and are contiguous; float32 where nothing else is said. Sums into the hash table
are atomic, so equal inputs give equal values only up to the order of float32 additions; all else is deterministic.

Half precision. Tables may be float16 or bfloat16: they are read as they are, and their gradient is a float32 buffer.
The networks multiply in float16 (see `gpu_mlp.Precision`); there the gradient is divided by its largest value, tile by
tile, so that a small loss does not vanish. No loss scale is needed, then; where a trainer multiplies its loss for the
sake of other half-precision operations, `adam(..., scale=...)` divides the gradient by the same.
"""

from __future__ import annotations

from models.fields.kernels.gpu_adam import adam
from models.fields.kernels.gpu_encode import encode_backward, encode_forward
from models.fields.kernels.gpu_march import march
from models.fields.kernels.gpu_mlp import mlp_backward, mlp_forward
from models.fields.kernels.gpu_volume import composite_backward, composite_forward, visible_counts

__all__ = [
    "adam",
    "composite_backward",
    "composite_forward",
    "encode_backward",
    "encode_forward",
    "march",
    "mlp_backward",
    "mlp_forward",
    "visible_counts",
]
