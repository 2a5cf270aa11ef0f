"""What happened to each asset: the board, its files, and the leases on what is being made."""
