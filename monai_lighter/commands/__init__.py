"""The command line, ``python -m monai_lighter VERB``: one verb a file."""
