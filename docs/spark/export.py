"""The raw tables of a warehouse as Parquet: python export.py warehouse.duckdb FOLDER

A dataset becomes a folder, a table a folder in it. Types, nulls and decimals stay what they are.
"""

import sys
from pathlib import Path

import duckdb


def export(warehouse: Path, folder: Path) -> None:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name in "
            "(select schema_name from duckdb_tables() where table_name = 'account_observations')"
        ).fetchall()
        for dataset, table in tables:
            target = folder / dataset / table
            target.mkdir(parents=True, exist_ok=True)
            file = str(target / "rows.parquet").replace("'", "''")
            connection.execute(f"""copy "{dataset}"."{table}" to '{file}' (format parquet)""")


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
