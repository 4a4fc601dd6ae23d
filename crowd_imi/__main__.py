"""``python -m crowd_imi`` is ``crowd-imi``."""

from crowd_imi.cli import main

if __name__ == "__main__":
    main()
