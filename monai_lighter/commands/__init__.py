"""The command line, ``monai-lighter VERB``: one verb a file.

A verb's module imports nothing heavy, and the verb imports what it needs in its body: ``--help`` shows its docstring, and what is
wrong with a command is told, before torch, MONAI and Lightning are imported, which takes seconds.
"""
