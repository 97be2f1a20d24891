"""What a config may do: one allow list, shown by ``inspect`` and kept by a run."""
