"""What images are compared by: frozen networks, and a dictionary of the set's own patches."""
