"""Applications: one short, readable file each. Copy one and change it."""
