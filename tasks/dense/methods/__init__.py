"""One file a method of dense stereo (see tasks.registry)."""
