"""Parts while the real thing is killed, frozen and cut."""
