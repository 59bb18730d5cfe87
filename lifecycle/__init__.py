"""A card lifecycle service: commands in from Kafka, operations in PostgreSQL, events out."""

import sys

if sys.flags.optimize:
    # Here, because every process of ours comes by, whichever command or module it runs.
    sys.stderr.write(
        "The assertions of this service guard data, and Python leaves them out when it optimises:"
        " start it without PYTHONOPTIMIZE and without -O.\n"
    )
    sys.exit(2)
