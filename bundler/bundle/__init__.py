"""The sealed bundle: written once, read with suspicion."""
