"""Parts of this room that run as processes of their own, so that they can be given up.

Relies on being started by the room itself; not for people.
"""

import argparse
from pathlib import Path

from lifecycle.local import containers, kafka_jars


def main() -> None:
    """Do the one thing asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    fetch = commands.add_parser("fetch-jars", help="download the jars of Kafka")
    fetch.add_argument("folder", type=Path)
    hold = commands.add_parser("hold", help="run a container")
    hold.add_argument("kind", choices=("kafka", "postgres"))
    hold.add_argument("address_file", type=Path)
    hold.add_argument("--volume")
    options = parser.parse_args()
    if options.what == "fetch-jars":
        kafka_jars.fetch(kafka_jars.missing_jars(options.folder), options.folder)
    else:
        containers.hold(options.kind, options.address_file, options.volume)


if __name__ == "__main__":
    main()
