"""The medium: one plain partition with `start`, one encrypted partition with the bundle."""
