"""A real Kafka and a real PostgreSQL for development, tests and benchmarks.

`running_servers` is all that others use. It relies on what is there, in this order: the settings,
a Docker engine, and else the servers themselves, from Maven Central and the package registry.
"""

from lifecycle.local.servers import Servers, running_servers
from lifecycle.local.waiting import LocalServerError

__all__ = ["LocalServerError", "Servers", "running_servers"]
