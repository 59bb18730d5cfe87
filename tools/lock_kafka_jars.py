"""Writes `lifecycle/local/kafka-jars.lock`: every jar of a Kafka broker with its SHA-256.

Relies on jgo to resolve the POMs, which is done here once so that no start has to.
"""

import tempfile
from pathlib import Path

import jgo
import truststore
from jgo.maven import MavenContext

from lifecycle.local.kafka_jars import KAFKA_VERSION, LOCK, Jar, sha256_of

BROKER = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
LOG_BINDING = ("org.apache.logging.log4j", "log4j-slf4j-impl")
"""Part of Kafka's distribution but of no POM: without it the broker logs nothing."""


def main() -> None:
    """Resolve, download, hash, write."""
    truststore.inject_into_ssl()
    with tempfile.TemporaryDirectory() as folder:
        maven = MavenContext(repo_cache=Path(folder))
        artifacts = jgo.resolve(BROKER)
        versions = {a.version for a in artifacts if a.groupId == "org.apache.kafka"}
        assert versions == {KAFKA_VERSION}, versions
        log_version = next(a.version for a in artifacts if a.artifactId == "log4j-core")
        # By itself: resolved together, its parent would choose the versions of all the others.
        coordinates = {(a.groupId, a.artifactId, a.version) for a in artifacts}
        coordinates.add((*LOG_BINDING, log_version))
        jars = [
            Jar(group, name, version, sha256_of(_downloaded(maven, group, name, version)))
            for group, name, version in sorted(coordinates)
        ]
    header = "# Written by `make lock`: the jars of the broker, group:artifact:version SHA-256.\n"
    LOCK.write_text(header + "".join(f"{jar.line}\n" for jar in jars))


def _downloaded(maven: MavenContext, group: str, artifact: str, version: str) -> Path:
    return Path(maven.project(group, artifact).at_version(version).artifact().resolve())


if __name__ == "__main__":
    main()
