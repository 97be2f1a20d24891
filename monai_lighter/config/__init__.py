"""The config before anything of it is built: sections, stages, checks, and the resolver that names what fails."""
