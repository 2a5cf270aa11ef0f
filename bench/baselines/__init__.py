"""What the engine is measured against, in plain eager torch. Kept as it is: a baseline that moves measures nothing."""
