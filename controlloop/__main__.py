"""`python -m controlloop`."""

from controlloop.cli.app import main

if __name__ == "__main__":
    main()
