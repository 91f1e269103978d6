"""chainrule: a neural-network library that you can read."""
