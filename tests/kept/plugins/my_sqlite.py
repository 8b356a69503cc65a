"""The source `sqlite`: the rows of a table."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import nlpkit
from nlpkit.contracts import Row


class SqliteOptions(nlpkit.ComponentConfig):
    table: str = "messages"


class Sqlite:
    def __init__(self, options):
        self.query = f'select * from "{options.table}" order by rowid'

    def default(self, split):
        return None

    def rows(self, location):
        with closing(sqlite3.connect(location)) as database:
            database.row_factory = sqlite3.Row
            try:
                for number, values in enumerate(database.execute(self.query), start=1):
                    yield Row(dict(values), f"{location}:{number}")
            except sqlite3.Error as error:
                raise nlpkit.DataError(location, problem=f"cannot be read ({error})") from None

    def fingerprint(self, location):
        return hashlib.sha256(Path(location).read_bytes()).hexdigest()


@nlpkit.hookimpl
def nlpkit_sources():
    yield nlpkit.SourceRecord(
        name="sqlite", target="my_sqlite:Sqlite", config="my_sqlite:SqliteOptions"
    )
