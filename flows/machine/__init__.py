"""The services of one machine, and whether it has what a batch needs."""
