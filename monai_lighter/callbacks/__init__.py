"""Lightning callbacks: weights, freezing, writers of predictions and of tables."""
