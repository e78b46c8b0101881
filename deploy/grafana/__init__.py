"""Grafana's dashboards and its provisioning; `python -m deploy.grafana.dashboards` writes deploy/grafana/dashboards."""
