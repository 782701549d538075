"""An archive of pictures: a folder of VCM files, and Parquet tables of what is in them. Nothing else.

A picture's files are written first, then the rows that name them, each file whole or not at all. So rows always name
files that are there, whatever is killed when; files that no row names are written over, with the same bytes, by the
run that takes their pictures in again. Names are hashes of contents: a picture is in an archive once.

``docs/service.md`` describes the tables and the language of queries.
"""

from vcm.archive.archive import Archive, Hit, Hits, Table
from vcm.archive.heads import add_head_rows
from vcm.archive.ingest import IngestOptions, Summary, ingest
from vcm.archive.language import QueryError
from vcm.archive.table import Found

__all__ = [
    "Archive", "Found", "Hit", "Hits", "IngestOptions", "QueryError", "Summary", "Table", "add_head_rows", "ingest",
]  # fmt: skip
