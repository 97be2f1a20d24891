"""A bundle as something to hand on: made, packaged, proved, exported, fetched. What the verbs of the command line do."""
