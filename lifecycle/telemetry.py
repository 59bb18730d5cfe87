"""Log lines: structured, to standard error, for a person or as JSON.

What is logged names cards, lanes and error codes, never what a command carried (G10).
"""

import logging
import sys

import structlog

from lifecycle.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Write every log line, ours and the libraries', in the format of the settings."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    is_json = settings.log_format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("lifecycle").setLevel(logging.INFO)
    # Whatever the others may say one day: below this it writes bytes of the records it fetches.
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
