"""Binary glTF 2.0: one mesh, one physically based material, the maps embedded; Y is up, lengths are kept."""

from __future__ import annotations

from models.mesh.gltf import write_glb

SUFFIX = ".glb"
MEDIA_TYPES = {".glb": "model/gltf-binary"}

write = write_glb
