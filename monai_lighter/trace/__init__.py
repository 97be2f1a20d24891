"""One case on its way through a config."""
