"""The command countries of `python -m consumer`: which country an address is of."""

import argparse
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Final

from consumer.clickhouse.countries import load_countries
from consumer.clickhouse.promotion import refresh_views
from consumer.clickhouse.servers import servers_of_cluster
from consumer.commands import PATIENCE_S, say
from consumer.operations.networks import read_networks
from consumer.parts import connect
from consumer.settings import Settings

COUNTRIES: Final = """
Tells ClickHouse which country each network is of, so that the views have a `country`: it is looked up
by the address when a query asks for it, and empty until this command has run. FILES are CSV (or
.csv.gz), all that there are: each run replaces the networks of the last. Layouts:

  network,country_code                    with this header; or network,country without one
  first address,last address,country      DB-IP's "IP to Country Lite", for example
  GeoLite2's two files of blocks, and the file of locations

ClickHouse needs the account headrace_countries (deploy/clickhouse/roles.sql). With INGEST_IP_PRIVACY
at `truncated` countries are still told; at `none`, or for addresses that have expired, they are not.

  python -m consumer countries dbip-country-lite-2026-11.csv.gz
  python -m consumer countries GeoLite2-Country-Blocks-IPv4.csv GeoLite2-Country-Blocks-IPv6.csv \\
      GeoLite2-Country-Locations-en.csv
"""


def run_countries(settings: Settings, arguments: Namespace) -> int:
    """Load networks on each server, because each answers from its own dictionary, and then make the views again."""
    connection = connect(settings).patient(PATIENCE_S)
    servers, paths, count = servers_of_cluster(connection), [Path(name) for name in arguments.file], 0
    for one in servers:
        count = load_countries(one, read_networks(paths))
    for one in servers[:1] if connection.layout.is_replicated else servers:
        for sentence in refresh_views(one, settings.time_zone, time.sleep):
            say(sentence)
    say(f"{count} networks have a country; the views show it", sys.stderr)
    return 0


def add_countries(countries: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    countries.add_argument("file", nargs="+", metavar="FILE", help="a file of networks, or of locations")
