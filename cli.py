"""The command line from a checkout: ``python cli.py demo`` does what ``crowd-imi demo`` does."""

from crowd_imi.cli import main

if __name__ == "__main__":
    main()
