"""Who vouches for a bundle, and what happened to it: shared by both sides of the gap, importing neither."""

#: This release's version, and the lowest verifier that reads what it writes.
VERSION = "0.1.0"
