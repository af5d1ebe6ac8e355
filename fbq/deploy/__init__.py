"""From a searched network to integers that run, and what they are worth."""
