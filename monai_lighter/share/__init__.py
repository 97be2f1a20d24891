"""Bundles made, packaged, proved, fetched and exported."""
