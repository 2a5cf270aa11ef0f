"""What will run: the captures of a specification, their stages and keys, and what is committed already."""
