"""Real guests for the tests: images, machines, and the packets that they send."""
