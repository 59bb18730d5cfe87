"""Kafka: the wire format (design.md 3-5, pure code) and everything that speaks aiokafka."""
