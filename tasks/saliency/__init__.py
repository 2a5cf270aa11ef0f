"""What stands out in a photo, by a learned network. A library, not a stage."""
