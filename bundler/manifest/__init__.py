"""What is wanted (manifest) and what that resolved to (lock)."""
