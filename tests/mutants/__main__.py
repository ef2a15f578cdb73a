"""python -m tests.mutants [NAME ...] [--list]"""

import os
import sys

from tests.mutants.runner import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Ends without taking apart what was imported for the children alone: some libraries complain of that at length.
    os._exit(code)
