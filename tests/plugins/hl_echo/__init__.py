"""The smallest complete plugin: it says again what it is told."""
