"""Tensors, their state, gradients of functions, and compiled steps."""
