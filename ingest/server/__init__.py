"""gunicorn: its worker and its sockets."""
