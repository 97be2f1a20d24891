"""What a run, a study or a bundle came to, as a page to look at."""
