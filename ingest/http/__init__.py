"""What speaks HTTP and nothing else: the application, its middleware, bodies, headers and answers."""
