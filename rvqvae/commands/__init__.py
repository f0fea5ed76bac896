"""The command line: one file a command, with its flags, its job and its output."""
