"""Hyperlight: micro-VM sandboxes whose abilities are granted, one host function at a time."""
