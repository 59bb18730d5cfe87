"""The jars of Apache Kafka, each named with its SHA-256 in `kafka-jars.lock`, from Maven Central.

Relies on jgo for the download. Because the lock names every jar, nothing is resolved at run time:
no POM is read, no JDK is looked for, and a jar that is not the one we locked is refused.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import platformdirs

KAFKA_VERSION = "4.3.1"
LOCK = Path(__file__).with_name("kafka-jars.lock")
DOWNLOADS_MAX = 4
"""Downloads at the same time."""
REQUEST_SECONDS_MAX = 30


class WrongJarError(Exception):
    """A jar is not the one that was locked."""


@dataclass(frozen=True, slots=True, order=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As Maven names it."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def line(self) -> str:
        """As the lock has it."""
        return f"{self.group}:{self.artifact}:{self.version} {self.sha256}"


def locked_jars() -> tuple[Jar, ...]:
    """The jars that the broker is started with."""
    lines = LOCK.read_text().splitlines()
    jars = []
    for line in lines:
        if line.startswith("#"):
            continue
        coordinates, sha256 = line.split(" ")
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    assert jars, LOCK
    return tuple(jars)


def cache_folder() -> Path:
    """Where the jars are kept for every project of this user; a new version has its own folder."""
    return platformdirs.user_cache_path("card-lifecycle") / f"kafka-{KAFKA_VERSION}"


def missing_jars(folder: Path) -> list[Jar]:
    """The jars that are not in the folder, or not as locked."""
    with ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
        jars = locked_jars()
        present = pool.map(lambda jar: _is_locked_jar(folder / jar.file_name, jar), jars)
        return [jar for jar, is_present in zip(jars, present, strict=True) if not is_present]


def class_path(folder: Path) -> str:
    """The class path of the broker."""
    return ":".join(str(folder / jar.file_name) for jar in locked_jars())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_locked_jar(path: Path, jar: Jar) -> bool:
    try:
        return sha256_of(path) == jar.sha256
    except FileNotFoundError:
        return False


def fetch(jars: Iterable[Jar], folder: Path) -> None:
    """Download jars into the folder; a jar appears there whole or not at all.

    Raises:
        WrongJarError: what Maven Central gave is not what was locked.

    """
    # Only here: the imports are slow, and needed once in the life of a machine.
    import truststore  # noqa: PLC0415 - only to download
    from jgo.maven import MavenContext  # noqa: PLC0415 - only to download

    # Behind a bank's proxy the certificates are signed by an authority that only the system knows.
    truststore.inject_into_ssl()
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the jars, so that a rename makes them appear there.
    repository = Path(tempfile.mkdtemp(prefix="download-", dir=folder))
    maven = MavenContext(repo_cache=repository, timeout=REQUEST_SECONDS_MAX)

    def fetch_one(jar: Jar) -> None:
        project = maven.project(jar.group, jar.artifact)
        downloaded = Path(project.at_version(jar.version).artifact().resolve())
        sha256 = sha256_of(downloaded)
        if sha256 != jar.sha256:
            raise WrongJarError(
                f"{jar.file_name} has the SHA-256 {sha256}, {LOCK.name}: {jar.line}"
            )
        # Readable for all, as files of a cache are; a mkdtemp folder above does not pass it on.
        downloaded.chmod(0o644)
        os.replace(downloaded, folder / jar.file_name)  # noqa: PTH105 says what it does
        print(jar.file_name, flush=True)  # noqa: T201 the log that the owner shows on failure

    try:
        with ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
            for _ in pool.map(fetch_one, jars):
                pass
    finally:
        shutil.rmtree(repository, ignore_errors=True)
