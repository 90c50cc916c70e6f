"""One module for each scheduler that runs Python; each only calls `load` and `transform`."""
