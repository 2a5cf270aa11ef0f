"""What is done to one asset: one folder a stage, pure functions inside, one thin `task.py` as its door."""
