"""Reads the views as dataframes with clickhouse-connect; runs in a virtual environment that has the libraries.

Arguments: port, user, password, database. Prints one JSON object: for each library and view the number of rows.
"""

import json
import sys
from typing import Any

import clickhouse_connect

VIEWS = ("page_views", "sessions", "users", "visitors_daily", "revenue_daily", "events_per_minute", "events_unique")


def main() -> None:
    """Ask each view in each form."""
    port, user, password, database = sys.argv[1:]
    found: dict[str, dict[str, int]] = {"pandas": {}, "arrow": {}, "polars": {}}
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=int(port), username=user, password=password, database=database
    ) as client:
        for view in VIEWS:
            # Arrow has no type for JSON; a UUID comes as its sixteen bytes.
            columns = "* EXCEPT properties" if view == "events_unique" else "*"
            found["pandas"][view] = len(client.query_df(f"SELECT * FROM {view}"))
            arrow: Any = client.query_arrow(f"SELECT {columns} FROM {view}", use_strings=True)
            found["arrow"][view] = arrow.num_rows
            polars: Any = client.query_df_arrow(f"SELECT {columns} FROM {view}", dataframe_library="polars")
            found["polars"][view] = polars.height
        revenue: Any = client.query_df("SELECT currency, sum(gross) AS gross FROM revenue_daily GROUP BY currency")
        found["pandas"]["gross"] = {row["currency"]: str(row["gross"]) for _, row in revenue.iterrows()}  # type: ignore[assignment]  # one fact more
    print(json.dumps(found))


if __name__ == "__main__":
    main()
