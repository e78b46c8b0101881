"""The client libraries, over fake transports."""
