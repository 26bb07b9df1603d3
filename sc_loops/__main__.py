"""``python -m sc_loops VERB ...``"""

import sys

from sc_loops.cli import main

sys.exit(main())
