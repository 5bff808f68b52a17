"""The command `sweep`: parsing, help, exit statuses."""
