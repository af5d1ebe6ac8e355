"""The method: networks, quantizers, training, precision search, reports."""
