"""Parquet that export.py wrote, as tables of Spark's catalog: python register.py FOLDER

Spark reads the files where they are. Again after each export: a table's columns are those of the
files that it was registered with.
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession


def register(folder: Path) -> None:
    spark = SparkSession.builder.enableHiveSupport().getOrCreate()
    for path in sorted(folder.glob("*/*")):
        name = f"`{path.parent.name}`.`{path.name}`"
        spark.sql(f"create schema if not exists `{path.parent.name}`")
        spark.sql(f"drop table if exists {name}")
        spark.catalog.createTable(name, path=str(path.absolute()), source="parquet")


if __name__ == "__main__":
    register(Path(sys.argv[1]))
