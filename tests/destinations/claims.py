"""What every supported destination promises: `test_conformance.py` has a test for each claim."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "destinations.md"

DESTINATIONS = ("duckdb", "postgres", "ducklake")

CLAIMS = {
    "types": "Each documented column has its type, in an empty table too",
    "decimals": "Amounts of 38 digits, 29 of them before the point, are exact",
    "unicode": "Letters of any script, emoji, quotes, backslashes, tabs and line ends stay",
    "nul": r"A NUL, which PostgreSQL cannot store, is stored as the escape `\u0000` everywhere",
    "nulls": "A null, an empty text and a blank stay three different things",
    "long_text": "A text of 2 MB stays whole",
    "odd_keys": "Custom fields keep their keys: empty, doubled, of 3,000 letters, `_dlt_id`",
    "empty_tables": "Every table exists after the first load, rows or no rows",
    "new_column": "A field that the API adds becomes a column; other rows have null there",
    "changed_type": "A value of another type goes into a variant column of its own",
    "soft_delete": "A record that is gone stays as it was, and is marked",
    "children": "The rows of a list are replaced as a whole; an emptied list leaves none",
    "rerun": "Loading everything once more changes no row",
}


def table() -> str:
    """The claims as they stand in the docs; a test fails where one does not hold."""
    rows = [
        "| what holds | " + " | ".join(f"`{d}`" for d in DESTINATIONS) + " |",
        "|---|" + "---|" * len(DESTINATIONS),
        *(f"| {claim} |" + " yes |" * len(DESTINATIONS) for claim in CLAIMS.values()),
    ]
    return "\n".join(rows) + "\n"
