"""The subcommands of `shoal`: their options and help, and what they do. Heavy imports stand inside the functions."""
