"""Data movement of block floating point networks, minimised exactly."""
