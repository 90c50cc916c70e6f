"""`python -m crmcom_sandbox`."""

from .cli import sandbox

sandbox(prog_name="python -m crmcom_sandbox")
