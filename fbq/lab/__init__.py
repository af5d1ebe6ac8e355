"""What experiments share: settings, data, costs, training, workdirs, record."""
