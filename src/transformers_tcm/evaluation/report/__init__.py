"""A page that shows where a model fails: `write_report` puts it, with the photos it shows, into a folder."""

from .page import Report, write_report

__all__ = ["Report", "write_report"]
