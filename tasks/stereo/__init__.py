"""Dense multi-view stereo on a CPU: depth maps of photos, the points they agree on, and a surface."""
