"""Ingest: from whatever holds the photos to upright, clean, comparable pictures and a list of what was refused."""
