"""The scale stage: how many metres a unit of the capture's world is."""
