"""Training: from posed photos to a field."""
