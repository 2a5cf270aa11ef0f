"""How long it will take, how much runs at once, and what is missing before it starts."""
