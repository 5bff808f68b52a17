"""`python -m sweep.status`: see `sweep.monitor.status`."""

import sys

from sweep._gc import leave_to_the_system
from sweep.monitor.status import main

if __name__ == "__main__":
    leave_to_the_system()
    sys.exit(main())
