"""Loads a CRM.COM back office into a dlt destination: the shortest way to use the source."""

import dlt

from crmcom import crmcom_source


def load() -> None:
    """One run, to be repeated as often as you like: it reads what is new, changed and gone.

    The address and the credentials are read from `.dlt/config.toml`, `.dlt/secrets.toml` or the
    environment, section `sources.crmcom`.
    """
    # A DuckDB file gets the pipeline's name, and a dataset of that name would be ambiguous in it.
    pipeline = dlt.pipeline(
        pipeline_name="crmcom_warehouse", destination="duckdb", dataset_name="crmcom"
    )
    print(pipeline.run(crmcom_source()))  # noqa: T201 - what was loaded, for a person


if __name__ == "__main__":
    load()
