"""One case on its way through a config: what each transform, the network, the loss and the metrics make of it."""
