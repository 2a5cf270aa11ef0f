"""Other people's trainers, each run by an interpreter of its own on the pictures that ours are measured on."""
