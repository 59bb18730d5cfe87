"""What every Kafka client of ours is opened with: addresses, security, time-outs."""

import ssl
from typing import Any

from aiokafka.errors import KafkaError, ProducerFenced

from lifecycle.kafka import tolerant
from lifecycle.settings import Settings, required

__all__ = ["KafkaError", "ProducerFenced", "client_options"]

# Here, because no client of ours is opened without this module: bytes on a topic stop no reader.
tolerant.install()


def client_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments that aiokafka's consumer, producer and admin client share.

    Raises:
        SettingsError: no brokers are set.
        OSError, ssl.SSLError: a TLS file can't be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": required(settings, "kafka_bootstrap_servers").split(","),
        "request_timeout_ms": settings.kafka_request_timeout_ms,
        "security_protocol": settings.kafka_security_protocol,
        "retry_backoff_ms": 100,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_tls_ca_file)
        if settings.kafka_tls_certificate_file is not None:
            context.load_cert_chain(
                settings.kafka_tls_certificate_file, settings.kafka_tls_key_file
            )
        options["ssl_context"] = context
    if settings.kafka_security_protocol.startswith("SASL"):
        assert settings.kafka_sasl_password is not None, "the settings check this"
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options
