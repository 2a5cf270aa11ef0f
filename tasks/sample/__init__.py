"""The project's own sample capture: a procedural object, its photographs and its exact truth."""
