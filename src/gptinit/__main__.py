"""`python -m gptinit`."""

import sys

from gptinit.cli import main

if __name__ == "__main__":
    sys.exit(main())
