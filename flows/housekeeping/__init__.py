"""What is deleted and when: old attempts, and published versions."""
