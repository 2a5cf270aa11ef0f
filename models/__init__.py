"""What things are: pydantic records, and the neural fields in `models.fields`."""
