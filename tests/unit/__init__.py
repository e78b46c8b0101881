"""Pure parts, without I/O."""
