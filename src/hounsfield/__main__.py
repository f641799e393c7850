"""``python -m hounsfield``."""

from hounsfield.cli.main import main

if __name__ == "__main__":
    main()
