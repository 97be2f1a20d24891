"""What many runs came to."""
