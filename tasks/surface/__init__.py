"""From a trained field to a clean, textured, exported mesh."""
