"""What was promised, rule by rule."""
