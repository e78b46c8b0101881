"""The console of the embedded pipeline: a page that shows events on their way, `python -m deploy.embedded.console`.

It reads what others have too: the metrics of the ingress and the workers, and ClickHouse as the account that may only
read. docs/CONSOLE.md says what the page shows.
"""
