"""One file a training method (see tasks.registry)."""
