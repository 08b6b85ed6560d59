"""``python -m innaprop`` is the command ``innaprop``."""

import sys

from innaprop.command import main

sys.exit(main())
