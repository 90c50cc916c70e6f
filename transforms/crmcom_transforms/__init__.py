"""The dbt project that turns the raw tables into overdue and balance reports."""

from pathlib import Path

PROJECT_DIR = Path(__file__).parent
"""Holds `dbt_project.yml`; a downstream dbt project names it as a local package."""
