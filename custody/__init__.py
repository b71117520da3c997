"""Who vouches for a bundle, and what happened to it: shared by both sides of the gap, importing neither."""
