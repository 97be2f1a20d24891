"""``python -m monai_lighter VERB``."""

from monai_lighter.commands.main import main

if __name__ == "__main__":
    main()
