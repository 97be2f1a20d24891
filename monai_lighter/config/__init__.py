"""The config as data: its files, items and stages. Knows nothing of what is built from it."""
