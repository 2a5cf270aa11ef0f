"""The contract that every method of every stage keeps, and the suite that checks it: see docs/extending.md."""
