"""Settings of the test session."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
