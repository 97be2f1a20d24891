"""What is wrong with a config, before anything of it is built."""
