"""One module a command. Nothing heavy is imported at the top of any of them."""
