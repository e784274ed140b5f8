"""Services: what runs commands, and the determinism they run under."""
