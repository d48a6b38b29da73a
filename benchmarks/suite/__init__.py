"""The measurements, one family a file; each has `measure()`, a generator of results."""
