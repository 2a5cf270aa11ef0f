"""The local Prefect server, and what its pages show."""
