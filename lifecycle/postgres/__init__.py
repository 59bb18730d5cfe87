"""Every SQL statement of the service, and nothing else: no rule, no decision, no Kafka."""
