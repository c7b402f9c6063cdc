"""Export: a published run's packed rows in the files that other trainers read. One module a format."""
