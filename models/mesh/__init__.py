"""Meshes and ray casting, shared by the stages that make, measure and draw them."""
