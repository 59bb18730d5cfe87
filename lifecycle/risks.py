"""What is fit for trying out and a risk in production: who else could read or change what we send.

Plain questions about a setting; which of them a process asks at its start is in `settings.py`.
"""

import os
import stat
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Risk = Literal["kafka-plaintext", "database-unverified", "keys-file-readable"]
"""The names that `LIFECYCLE_INSECURE_ALLOWED` takes."""

_VERIFYING = frozenset({"verify-ca", "verify-full"})
# With these the server is another one than the address says.
_SERVER_ELSEWHERE = frozenset({"hostaddr", "service"})
_OTHERS_BUT_READING_GROUP = (stat.S_IRWXG & ~stat.S_IRGRP) | stat.S_IRWXO
_ROOT = 0


def is_plaintext(security_protocol: str) -> bool:
    """Whether this way of speaking to Kafka is not encrypted, by its name in Kafka."""
    return security_protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}


def is_unverified(database_url: str) -> bool:
    """Whether somebody else may answer, or listen, at the address of a database.

    Below `sslmode=verify-ca` a client takes any certificate, or none. A Unix socket leaves the
    machine for nobody. An address that can't be read is none, which others say.
    """
    try:
        url = urlsplit(database_url)
    except ValueError:
        return False
    options = parse_qs(url.query)
    modes = options.get("sslmode", [])
    if modes and _VERIFYING.issuperset(modes):
        return False
    if _SERVER_ELSEWHERE & options.keys():
        return True
    _, _, hosts = url.netloc.rpartition("@")
    if not hosts.partition(":")[0]:
        # As both drivers do: then the option, then the environment, then the local socket.
        hosts = options.get("host", [os.environ.get("PGHOST", "")])[-1]
    return any(
        host and not host.startswith("/")
        for host in (unquote(name).partition(":")[0] for name in hosts.split(","))
    )


def is_open_to_others(file: os.stat_result) -> bool:
    """Whether others than this process and root may read or change a file of secrets.

    PostgreSQL's rule for its key file: ours, and nothing for group and others; or root's, when the
    group may read too. The second is how Kubernetes mounts a secret for a pod with an `fsGroup`.
    Who works as root looks at another user's file as that user would.
    """
    if os.geteuid() in {file.st_uid, _ROOT}:
        return bool(file.st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    return file.st_uid != _ROOT or bool(file.st_mode & _OTHERS_BUT_READING_GROUP)
