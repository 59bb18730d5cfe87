"""What the Makefile runs beside the product; not part of what is installed."""
