"""Every setting of the service: environment variables with the prefix `LIFECYCLE_`.

Each has a name, a default where one is safe, and its unit last in its name. A wrong value is
refused before anything is touched; `explain` turns pydantic's report into sentences for people.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    Field,
    IPvAnyAddress,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from lifecycle import risks
from lifecycle.domain.operations import OperationKind
from lifecycle.risks import Risk

ENVIRONMENT_PREFIX = "LIFECYCLE_"


PENDING_TIMEOUT_SECONDS_DEFAULT: dict[str, int] = {
    OperationKind.RENEW.value: 24 * 60 * 60,
    OperationKind.PRODUCE.value: 30 * 24 * 60 * 60,
    OperationKind.CLICK_TO_PAY_ENROLMENT.value: 60 * 60,
    OperationKind.CLICK_TO_PAY_UPDATE.value: 60 * 60,
    OperationKind.CLICK_TO_PAY_OPTOUT.value: 60 * 60,
}
"""A CMS answers within its day, a bureau within weeks, a scheme soon."""
PENDING_TIMEOUT_SECONDS_MAX = 60 * 24 * 60 * 60 - 1
"""Under 60 days (design.md 8): an operation has ended long before its three months are over."""


class SettingsError(Exception):
    """The settings are wrong: the message names each setting and says what to do."""


class Settings(BaseSettings):
    """The settings, read from the environment once, at start."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    environment: Literal["production", "development"] = Field(
        "production", description="`development` allows what would be a mistake in production"
    )
    insecure_allowed: Annotated[tuple[Risk, ...], NoDecode] = Field(
        (),
        description="what production refuses and is to be allowed all the same, with commas between"
        f" them: {', '.join(get_args(Risk))}",
    )
    kafka_bootstrap_servers: str | None = Field(
        None, description="host:port[,host:port…] of the Kafka cluster"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to speak to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="with SASL_PLAINTEXT and SASL_SSL"
    )
    kafka_sasl_username: str | None = Field(None, description="with SASL_PLAINTEXT and SASL_SSL")
    kafka_sasl_password: SecretStr | None = Field(
        None, description="with SASL_PLAINTEXT and SASL_SSL"
    )
    kafka_tls_ca_file: Path | None = Field(
        None, description="PEM file of the authorities that sign the brokers' certificates"
    )
    kafka_tls_certificate_file: Path | None = Field(None, description="our certificate, PEM")
    kafka_tls_key_file: Path | None = Field(None, description="the key of our certificate, PEM")
    database_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:port/database?sslmode=…"
    )
    database_owner_url: SecretStr | None = Field(
        None,
        description="the same with a login that owns the tables, for `migrate` only; not set:"
        " `LIFECYCLE_DATABASE_URL`",
    )
    database_role_prefix: str = Field(
        "card_lifecycle",
        pattern=r"^[a-z][a-z0-9_]{0,47}$",
        description="how the names of the database roles begin, which belong to the whole server:"
        " card_lifecycle_owner, card_lifecycle_worker, card_lifecycle_reader",
    )
    keys_file: Path | None = Field(
        None,
        description="JWK Set: what opens encryptedData, encrypts card numbers, and fingerprints"
        " them; `lifecycle keys generate FILE` makes one",
    )
    local_dir: Path = Field(
        Path(".local"), description="where `lifecycle dev` keeps the data of its own servers"
    )
    topic_prefix: str = Field(
        "cards", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="first word of every topic"
    )
    partitions: int = Field(
        12, ge=1, le=1024, description="partitions of commands and events; never changes"
    )
    replication_factor: int = Field(
        1, ge=1, le=9, description="copies of each topic that `topics create` asks for"
    )
    consumer_group: str = Field(
        "card-lifecycle", min_length=1, max_length=255, description="Kafka group of the workers"
    )
    publish: Literal["transactional", "idempotent"] = Field(
        "transactional",
        description="`idempotent` is faster but has no fence: a repeat may be seen after a crash",
    )
    issuer_time_zones: dict[str, str] = Field(
        default_factory=dict,
        description='JSON object, issuerId to IANA time zone, e.g. {"BANK000001": "Europe/Paris"};'
        " UTC for all others",
    )
    clock_offset_seconds: int = Field(
        0,
        ge=-(10**9),
        le=10**9,
        description="development only: added to the time of every record and of the views",
    )
    pending_timeout_seconds: dict[str, int] = Field(
        PENDING_TIMEOUT_SECONDS_DEFAULT,
        validate_default=True,
        description="JSON object, how long a PENDING operation of a kind waits for its outside"
        " party; a kind that is left out keeps its default",
    )
    commands_retention_days: int = Field(
        100,
        ge=1,
        description="of the command topic, and of the counts of what became of its records",
    )
    events_retention_days: int = Field(400, ge=1, description="of the event topic")
    dead_letters_retention_days: int = Field(
        100, ge=1, description="of the dead-letter topic, and of the dead letters in the database"
    )
    retention_interval_seconds: int = Field(
        300, ge=1, description="how often a worker looks for partitions that may be dropped"
    )
    max_command_bytes: int = Field(
        65_536, ge=1_024, le=900_000, description="a longer command is a dead letter TOO_LARGE"
    )
    sensitive_identifiers: Literal["known", "strict"] = Field(
        "known",
        description="when digits in an identifier are a card number: `known`, when they are the"
        " number of a card of the issuer or of the command's own encryptedData; `strict`, also when"
        " they only look like one, as in a text",
    )
    poll_records_max: int = Field(
        2_000, ge=1, le=10_000, description="records taken in one transaction"
    )
    poll_bytes_max: int = Field(
        4 * 1024 * 1024,
        ge=2 * 1024 * 1024,
        le=64 * 1024 * 1024,
        description="bytes of the records taken in one transaction, not compressed; one record that"
        " is longer is taken alone",
    )
    opened_per_transaction_max: int = Field(
        250,
        ge=1,
        le=10_000,
        description="texts of encryptedData opened for one transaction: a burst of them on one"
        " partition keeps the commands on the others waiting no longer than it takes to open so"
        " many",
    )
    poll_timeout_ms: int = Field(20, ge=1, le=1_000, description="how long a poll waits")
    recent_commands_max: int = Field(
        16, ge=1, le=64, description="command ids that a card's row remembers; older: a table"
    )
    unpublished_bytes_max: int = Field(
        8 * 1024 * 1024,
        ge=65_536,
        description="events and dead letters of a lane that wait for Kafka, in bytes of memory:"
        " above this they are left in the log, and intake waits",
    )
    publish_rows_max: int = Field(
        2_000, ge=1, description="events in one Kafka transaction, and dead letters"
    )
    publish_bytes_max: int = Field(
        8 * 1024 * 1024,
        ge=65_536,
        description="events, states of cards and dead letters in one Kafka transaction",
    )
    kafka_transaction_timeout_ms: int = Field(
        15_000, ge=1_000, le=60_000, description="after this an unfinished publication is aborted"
    )
    kafka_request_timeout_ms: int = Field(10_000, ge=1_000, description="one request to a broker")
    session_timeout_ms: int = Field(
        10_000, ge=6_000, description="a worker silent for so long loses its partitions"
    )
    rebalance_timeout_ms: int = Field(
        30_000, ge=5_000, description="within this a worker gives up the lanes taken from it"
    )
    database_connect_timeout_ms: int = Field(10_000, ge=100, description="opening a connection")
    database_statement_timeout_ms: int = Field(20_000, ge=100, description="one SQL statement")
    database_lock_timeout_ms: int = Field(10_000, ge=100, description="waiting for a row lock")
    database_commit_timeout_ms: int = Field(
        20_000,
        ge=100,
        description="waiting for COMMIT, and so for a synchronous standby; then the connection is"
        " closed, and the database tells later what came of it",
    )
    retry_ms_max: int = Field(
        60_000,
        ge=0,
        description="a database or broker away for longer than this ends the process with 1",
    )
    lane_standstill_ms: int = Field(
        30_000,
        ge=100,
        description="a lane that has work and has not moved for so long makes /readyz say so",
    )
    sweep_interval_ms: int = Field(
        1_000, ge=50, le=1_000, description="how often lanes are asked for rows not published"
    )
    timer_commands_per_second_max: int = Field(
        2_000,
        ge=1,
        le=100_000,
        description="due EXPIRE, AUTO_RENEW and DELETE_DUE are sent no faster, nor are TIME_OUTs:"
        " the end of a month leaves room for other commands",
    )
    cascade_commands_per_second_max: int = Field(
        2_000,
        ge=1,
        le=100_000,
        description="one worker sends the DELETEs of cascades (a consumer's cards, a card's virtual"
        " cards) no faster",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="where a worker serves /healthz, /readyz and /metrics; not set: nowhere (`dev`:"
        " 9464), 0: any free port, which its log names",
    )
    metrics_host: IPvAnyAddress = Field(
        IPv4Address("127.0.0.1"),
        description="address of this machine to serve them on; 0.0.0.0 in a container",
    )
    log_format: Literal["console", "json"] = Field("json", description="how log lines are written")

    @field_validator("insecure_allowed", mode="before")
    @classmethod
    def _names_with_commas(cls, names: object) -> object:
        return [name.strip() for name in names.split(",")] if isinstance(names, str) else names

    @field_validator("issuer_time_zones")
    @classmethod
    def _zones_exist(cls, zones: dict[str, str]) -> dict[str, str]:
        for issuer_id, zone in zones.items():
            try:
                ZoneInfo(zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f"{zone!r} of {issuer_id!r} is no IANA time zone") from error
        return zones

    @field_validator("pending_timeout_seconds")
    @classmethod
    def _timeouts_are_known(cls, timeouts: dict[str, int]) -> dict[str, int]:
        for kind, seconds in timeouts.items():
            if kind not in PENDING_TIMEOUT_SECONDS_DEFAULT:
                known = ", ".join(PENDING_TIMEOUT_SECONDS_DEFAULT)
                raise ValueError(f"{kind!r} is not one of {known}")
            if not 1 <= seconds <= PENDING_TIMEOUT_SECONDS_MAX:
                raise ValueError(f"{kind} must be 1 to {PENDING_TIMEOUT_SECONDS_MAX} seconds")
        return PENDING_TIMEOUT_SECONDS_DEFAULT | timeouts

    @field_validator("database_url", "database_owner_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(
            ("postgresql://", "postgres://")
        ):
            raise ValueError("must start with postgresql://")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.clock_offset_seconds and self.environment == "production":
            raise ValueError(
                "LIFECYCLE_CLOCK_OFFSET_SECONDS moves the clock of every decision: it is allowed"
                " only with LIFECYCLE_ENVIRONMENT=development"
            )
        if self.database_lock_timeout_ms >= self.database_statement_timeout_ms:
            raise ValueError(
                "LIFECYCLE_DATABASE_LOCK_TIMEOUT_MS must be below"
                " LIFECYCLE_DATABASE_STATEMENT_TIMEOUT_MS: otherwise a statement that waits for"
                " another one's lock looks like one that is too slow"
            )
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                "LIFECYCLE_KAFKA_SECURITY_PROTOCOL asks for SASL: set"
                " LIFECYCLE_KAFKA_SASL_USERNAME and LIFECYCLE_KAFKA_SASL_PASSWORD"
            )
        return self


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: naming every wrong setting, and every one that production refuses; nothing
            was touched.

    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    except SourceError as error:
        raise SettingsError(f"{error}: it must be JSON") from None
    if settings.environment == "production":
        refused = [
            f"{sentence} To run with it all the same: LIFECYCLE_INSECURE_ALLOWED={risk}; to try"
            " things out: LIFECYCLE_ENVIRONMENT=development."
            for risk, sentence in _risks(settings)
            if risk not in settings.insecure_allowed
        ]
        if refused:
            raise SettingsError("\n".join(refused))
    return settings


def _risks(settings: Settings) -> Iterator[tuple[Risk, str]]:
    """What of the settings is a risk, each with its sentence: looked at when a process starts."""
    protocol = settings.kafka_security_protocol
    if settings.kafka_bootstrap_servers is not None and risks.is_plaintext(protocol):
        yield (
            "kafka-plaintext",
            f"LIFECYCLE_KAFKA_SECURITY_PROTOCOL: {protocol} is not encrypted: set SSL or SASL_SSL.",
        )
    for field in get_args(DatabaseField):
        url: SecretStr | None = getattr(settings, field)
        if url is not None and risks.is_unverified(url.get_secret_value()):
            yield (
                "database-unverified",
                f"{variable_of(field)}: set sslmode=verify-full or verify-ca, or a Unix socket.",
            )
    file = settings.keys_file
    try:
        is_open = file is not None and risks.is_open_to_others(file.stat())
    except OSError:
        is_open = False  # whoever needs its keys says that it can't be read
    if is_open:
        yield (
            "keys-file-readable",
            f"LIFECYCLE_KEYS_FILE: others may read {file}: make it this user's with mode 600.",
        )


def explain(error: ValidationError) -> str:
    """One line for each wrong setting, without its value: it may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        field = "_".join(str(part) for part in problem["loc"][:1]).upper()
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{ENVIRONMENT_PREFIX}{field}: {message}" if field else message)
    return "\n".join(lines)


DatabaseField = Literal["database_url", "database_owner_url"]
"""A setting that is the address of the database."""


def variable_of(field: str) -> str:
    """The environment variable of a setting."""
    return f"{ENVIRONMENT_PREFIX}{field.upper()}"


def owner_field(settings: Settings) -> DatabaseField:
    """The setting with the login that `migrate` uses."""
    return "database_url" if settings.database_owner_url is None else "database_owner_url"


def required(
    settings: Settings,
    field: Literal["kafka_bootstrap_servers", "keys_file"] | DatabaseField,
) -> str:
    """The value of a setting that this command cannot do without.

    Raises:
        SettingsError: it is not set.

    """
    value = getattr(settings, field)
    if value is None:
        raise SettingsError(
            f"{variable_of(field)} is not set."
            " Set it, or try everything on servers of its own with `lifecycle dev`."
        )
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
