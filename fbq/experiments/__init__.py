"""One pipeline per file, read from top to bottom; `main.py` picks by name."""
