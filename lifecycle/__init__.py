"""A card lifecycle service: commands in from Kafka, operations in PostgreSQL, events out."""
