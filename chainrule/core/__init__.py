"""What a computation is: nodes, ops, graphs, their derivatives. NumPy only."""
