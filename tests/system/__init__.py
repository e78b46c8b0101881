"""The whole pipeline as a stranger sees it: HTTP and SQL; imports nothing of ours."""
