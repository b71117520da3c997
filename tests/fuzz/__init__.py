"""Random bytes for every parser that reads a medium before a signature is checked."""
