"""Tables of real databases: SQLite and DuckDB files, and a PostgreSQL server."""

from __future__ import annotations

import datetime
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from postgres_server import PASSWORD, PostgresServer

import genpipe
from genpipe.cli import execute
from genpipe.databases import Address
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError, DataError, InfrastructureError, UsageError
from genpipe.one_file import write_tables

ROWS = 300
KINDS = ("sqlite", "duckdb", "postgresql")
DDL = (
    "create table people (id integer primary key, code varchar(9) unique, age integer not null, "
    "fee numeric(8,2), city text, member boolean not null, joined date, seen timestamp)",
    "create table visits (id integer primary key, person integer not null references people (id), "
    "day date not null, cost double precision)",
)


def people() -> list[tuple[Any, ...]]:
    day = datetime.date(2020, 1, 1)
    return [
        (
            3 * i + 7,
            f"P{i:05d}",
            20 + i % 50,
            None if i % 9 == 0 else (i % 80) + 0.25,
            ("Ulm", "Bonn", "Köln")[i % 3],
            i % 4 == 0,
            day + datetime.timedelta(days=i),
            datetime.datetime(2021, 1, 1, i % 24, i % 60),
        )
        for i in range(ROWS)
    ]


def visits() -> list[tuple[Any, ...]]:
    day = datetime.date(2022, 1, 1)
    return [(i, 3 * (i // 3) + 7, day + datetime.timedelta(days=i % 300), i * 1.5) for i in range(2 * ROWS)]


def fill(run: Callable[[str], Any]) -> None:
    for statement in DDL:
        run(statement)
    for table, rows in (("people", people()), ("visits", visits())):
        run(f"insert into {table} values " + ", ".join(f"({', '.join(map(written, row))})" for row in rows))


def written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else f"'{value}'"


def command(place: str) -> Callable[[str], Any]:
    """Runs a statement on its own connection, as another program would."""

    def run(statement: str) -> Any:
        if place.startswith("sqlite"):
            with closing(sqlite3.connect(place[10:])) as connection, connection:
                return connection.execute(statement).fetchall()
        if place.startswith("duckdb"):
            import duckdb

            with duckdb.connect(place[10:]) as connection:
                return connection.execute(statement).fetchall()
        import adbc_driver_postgresql.dbapi as dbapi

        with dbapi.connect(place, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if statement.startswith("select") else []

    return run


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[str]:
    """The URL of a database with two tables."""
    if request.param == "postgresql":
        place = request.getfixturevalue("postgres")
    else:
        place = f"{request.param}:///{tmp_path / ('shop.' + request.param)}"
    fill(command(place))
    yield place


def test_a_table_is_read_with_what_the_database_says_of_it(shop: str) -> None:
    data = genpipe.ingest(shop, table="people", holdout=0)
    kinds = {f.name: f.kind for f in data.schema.fields}
    assert kinds == {
        "id": "identifier", "code": "identifier", "age": "integer", "fee": "number", "city": "category",
        "member": "boolean", "joined": "date", "seen": "timestamp",
    }  # fmt: skip
    assert "primary key in the database" in data.schema.field("id").reason
    assert "not null in the database" in data.schema.field("age").reason
    assert data.schema.field("fee").nullable and not data.schema.field("age").nullable
    assert data.name == "people"
    there = data.table("train").sort_by("id").to_pylist()
    assert [tuple(row.values())[:7] for row in there] == [row[:7] for row in people()]
    assert [row["seen"].replace(tzinfo=None) for row in there] == [row[7] for row in people()]


def test_a_query_a_fragment_and_columns(shop: str) -> None:
    query = "select p.city, v.cost as paid from visits v join people p on p.id = v.person order by v.id;"
    joined = genpipe.ingest(shop, query=query, name="joined")
    assert joined.schema.names == ("city", "paid") and joined.rows() == 2 * ROWS
    some = genpipe.ingest(f"{shop}#people", drop=["code", "seen"], columns=["id", "age", "code"])
    assert some.schema.names == ("id", "age")
    with pytest.raises(UsageError, match=r"unknown column 'agee'.*did you mean 'age'"):
        genpipe.ingest(f"{shop}#people", columns=["agee"], name="other")


def test_the_same_rows_are_the_same_dataset(shop: str) -> None:
    first = genpipe.ingest(f"{shop}#people")
    assert genpipe.ingest(f"{shop}#people").uri == first.uri
    run = command(shop)
    run("update people set age = age + 1 where id = 7")
    changed = genpipe.ingest(f"{shop}#people")
    assert changed.fingerprint != first.fingerprint
    run("update people set age = age - 1 where id = 7")  # in PostgreSQL the row lies elsewhere now
    assert genpipe.ingest(f"{shop}#people").uri == first.uri


def test_errors_say_what_there_is(shop: str) -> None:
    with pytest.raises(
        DataError, match=r"no table 'peple'; expected one of people, visits; did you mean 'people'"
    ):
        genpipe.ingest(f"{shop}#peple")
    with pytest.raises(UsageError, match="2 tables; expected one of people, visits; say table="):
        genpipe.ingest(shop)
    with pytest.raises(DataError, match="nothere"):
        genpipe.ingest(shop, query="select nothere from people")
    if not shop.startswith("duckdb"):  # which names the second one id_1
        with pytest.raises(DataError, match="several columns named 'id'"):
            genpipe.ingest(shop, query="select p.id, v.id from people p join visits v on p.id = v.person")
    with pytest.raises(UsageError, match="a query beside a table"):
        genpipe.ingest(f"{shop}#people", query="select 1")
    with pytest.raises(UsageError, match="a database as series"):
        genpipe.ingest(f"{shop}#people", kind="series")
    command(shop)("delete from visits")
    with pytest.raises(DataError, match="0 rows"):
        genpipe.ingest(f"{shop}#visits")


DOES_MORE = [
    "delete from visits",
    "select 1 as a; delete from visits",
    "select 1 as a) as q; delete from visits; --",
    "drop table visits",
    "attach 'other.db' as other",
    "with gone as (delete from visits returning id) select * from gone",
    "copy visits to program 'true'",
    "select load_extension('x') as a",
    "select * from read_text('/etc/hostname')",
    "pragma writable_schema = on",
]


def test_a_query_reads_and_does_nothing_else(shop: str) -> None:
    for query in DOES_MORE:
        with pytest.raises(DataError):
            genpipe.ingest(shop, query=query, min_rows=1, holdout=0)
    assert command(shop)("select count(*) from visits")[0][0] == 2 * ROWS
    assert not Path("other.db").exists()


def test_types_that_arrow_does_not_have(postgres: str, home: Path) -> None:
    run = command(postgres)
    run("create type mood as enum ('sad', 'ok', 'fine')")
    run('create schema "Other one"')
    run(
        'create table "Other one"."odd ""name" (a uuid, b jsonb, c interval, d inet, e mood, f numeric,'
        " g money, h char(4), i int[], j time, k numeric(30,0), l timestamptz)"
    )
    run(
        'insert into "Other one"."odd ""name" select md5(i::text)::uuid, \'{"x": 1}\','
        " i * interval '1 minute', '10.0.0.1', (array['sad', 'ok', 'fine'])[1 + i % 3]::mood, i / 8.0,"
        " i::money, 'ab', array[i], '10:00', 12345678901234567890123, '2020-01-01 10:00+02'"
        " from generate_series(1, 60) i"
    )
    data = genpipe.ingest(f'{postgres}#Other one.odd "name', name="odd", min_rows=1, holdout=0)
    row = data.table("train").sort_by("c").to_pylist()[0]
    assert row["c"] == 60.0 and row["d"] == "10.0.0.1" and row["h"] == "ab" and row["f"] == 0.125
    assert row["k"] == "12345678901234567890123"
    assert data.schema.field("e").kind == "category"
    assert any("'i' holds lists" in notice for notice in data.notices)


def test_numbers_and_texts_in_one_column_of_sqlite(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "loose.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table t (a, flag boolean, n real)")
        rows = [(i if i < 3000 else f"x{i % 3}", i % 2, i if i % 2 else i / 4) for i in range(6000)]
        connection.executemany("insert into t values (?, ?, ?)", rows)
    data = genpipe.ingest(str(path), holdout=0)
    assert data.schema.field("a").arrow() == pa.string() and data.schema.field("flag").kind == "boolean"
    assert data.table("train")["n"].to_pylist() == [row[2] for row in rows]


def test_files_that_are_no_database(tmp_path: Path, home: Path) -> None:
    (tmp_path / "shop.db").write_bytes(b"no database at all" * 100)
    (tmp_path / "shop.duckdb").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataError, match="not a database"):
        genpipe.ingest(str(tmp_path / "shop.db"))
    with pytest.raises(DataError, match="is it a DuckDB file"):
        genpipe.ingest(str(tmp_path / "shop.duckdb"))
    with pytest.raises(DataError, match=r"no such file; did you mean 'shop.db'"):
        genpipe.ingest(f"sqlite:///{tmp_path}/shp.db")
    with pytest.raises(UsageError, match="three slashes"):
        genpipe.ingest("sqlite://shop.db")


def test_rows_without_end_are_refused(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "endless.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "create view t as with recursive n(i) as (select 1 union all select i + 1 from n)"
            " select i, hex(zeroblob(50000)) as a from n"
        )
    with pytest.raises(DataError, match="grow to more than"):
        genpipe.ingest(str(path), memory=96 * 2**20)


def test_memory_is_bounded(tmp_path: Path, home: Path) -> None:
    """A table of 190 MB, read with a limit of 96 MiB. What allocators keep varies by a third."""
    code = (
        "import sqlite3, sys, genpipe, psutil\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('create table t (i integer primary key, a text, b text)')\n"
        "rows = ((i, f'{i:0500d}', 'y' * 700) for i in range(160000))\n"
        "c.executemany('insert into t values (?, ?, ?)', rows)\n"
        "c.commit(); c.close()\n"
        "genpipe.ingest(sys.argv[2], name='small', min_rows=1, holdout=0)\n"
        "def peak():\n"
        "    return int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])\n"
        "before = peak(); genpipe.ingest(sys.argv[1], memory=96 * 2**20); print(peak() - before)"
    )
    small = tmp_path / "small.csv"
    small.write_text("a\n" + "1\n" * 30)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.db"), str(small)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < 144 * 2**20


def test_a_server_that_is_away_or_refuses(
    postgres_server: PostgresServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InfrastructureError, match="is the server running"):
        genpipe.ingest("postgresql://me@127.0.0.1:9/shop#people")
    monkeypatch.setenv("PGPASSWORD", "quite-the-wrong-word")
    with pytest.raises(InfrastructureError, match=r"password authentication failed.*PGPASSWORD") as caught:
        genpipe.ingest(f"{postgres_server.uri}#people")
    assert "quite-the-wrong-word" not in str(caught.value)
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(InfrastructureError, match=r"\.pgpass"):
        genpipe.ingest(f"{postgres_server.uri}#people")


def test_a_driver_that_is_not_installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    told = "adbc-driver-postgresql is not installed; pip install adbc-driver-postgresql"
    with pytest.raises(UsageError, match=told):
        genpipe.ingest("postgresql://me@127.0.0.1:9/shop#people")


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://me:{}@127.0.0.1:9/shop",
        "postgres://me:{}@127.0.0.1:9/shop#people",
        "postgresql://127.0.0.1:9/shop?user=me&password={}",
        "postgresql://me:a/{}@127.0.0.1:9/shop",
        "postgresql://me:{}@",
    ],
)
def test_a_password_in_a_url_is_refused_and_kept_nowhere(
    place: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["ingest", place.format(PASSWORD), "-o", "table=people"]) == 2
    out, err = capfd.readouterr()
    assert PASSWORD not in out + err and "PGPASSWORD" in err
    assert not [p for p in home.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]


def test_a_password_in_a_query_is_refused(home: Path) -> None:
    query = f"select * from dblink('host=other password={PASSWORD}', 'select 1') as t(a int)"
    with pytest.raises(UsageError, match="password or key") as caught:
        genpipe.ingest("postgresql://me@127.0.0.1:9/shop", query=query)
    assert PASSWORD not in str(caught.value)


def test_the_password_of_the_environment_is_kept_nowhere(
    postgres: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(command(postgres))
    assert execute(["ingest", postgres, "-o", "table=people"]) == 0
    assert execute(["ingest", postgres, "-o", "table=peeple"]) == 3
    out, err = capfd.readouterr()
    assert PASSWORD not in out + err
    assert postgres in str(genpipe.ingest(f"{postgres}#people").manifest.origin["source"])
    assert not [p for p in home.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]


def test_a_pgpass_file_gives_the_password(
    postgres: str, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(command(postgres))
    monkeypatch.delenv("PGPASSWORD")
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:*:*:postgres:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert genpipe.ingest(f"{postgres}#people").rows() == ROWS


def test_the_keys_of_a_database_make_a_spec(
    shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["relate", shop]) == 0
    text = capsys.readouterr().out
    spec = tmp_path / "shop.yaml"
    spec.write_text(text)
    found = genpipe.validate(spec)
    people, visits = (found.tables[n] for n in ("people", "visits"))
    assert (people.key, people.parent, visits.key, visits.parent) == ("id", None, "id", "people")
    assert (visits.foreign_key, visits.order_by) == ("person", "day")
    assert people.source == f"{Address.parse(shop)}#people"


def test_related_tables_are_trained_from_a_database(tmp_path: Path, home: Path) -> None:
    place = f"sqlite:///{tmp_path}/shop.db"
    fill(command(place))
    spec = tmp_path / "shop.yaml"
    spec.write_text(genpipe.relate(place) + "recipe: tabular_trees\n")
    trained = genpipe.train(spec)
    made = genpipe.generate(trained, rows=50, workers=0)
    keys = {*made["people"].table("generated")["id"].to_pylist()}
    assert {*made["visits"].table("generated")["person"].to_pylist()} <= keys
    genpipe.generate(trained, rows=50, workers=0, output=f"sqlite:///{tmp_path}/made.db")
    count = "select count(*) from visits join people on people.id = visits.person"
    assert command(f"sqlite:///{tmp_path}/made.db")(count)[0][0] == made["visits"].rows()
    with pytest.raises(UsageError, match="a whole database"):
        genpipe.relate(f"{place}#people")


ODD = (
    "create table people (id integer primary key, boss integer references people (id), photo blob,"
    " team integer references teams (id))",
    "create table teams (id integer primary key, head integer references people (id), kind integer"
    " references kinds (id))",
    "create table kinds (id integer primary key)",
    'create table [no "key": x] (a text, person integer not null references people (id))',
    "create table both_ (person integer references people (id), team integer references teams (id),"
    " primary key (person, team))",
    "create table more (person integer primary key references people (id), likes text)",
    "create table parts (id integer primary key, person integer, team integer,"
    " foreign key (person, team) references both_ (person, team))",
    "create view v as select 1 as one",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A generator of the table `people`."""
    folder = tmp_path_factory.mktemp("model")
    fill(command(f"sqlite:///{folder}/shop.db"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        data = genpipe.ingest(f"sqlite:///{folder}/shop.db#people", schema=None)
        return genpipe.train(data, recipe="tabular_trees").uri


def test_rows_go_back_into_a_database_once(shop: str, model: str) -> None:
    run = command(shop)
    made = genpipe.generate(model, rows=200, output=f"{shop}#made")
    for _ in range(2):
        genpipe.generate(model, rows=200, output=f"{shop}#made")
    assert run("select count(*), count(distinct id), count(fee) from made")[0][:2] == (200, 200)
    assert run("select count(*) from genpipe_deliveries")[0][0] == 1
    assert {row[0] for row in run("select distinct city from made")} == {"Ulm", "Bonn", "Köln"}
    again = genpipe.ingest(f"{shop}#made", name="again", holdout=0).table("train").sort_by("id")
    assert again["age"].to_pylist() == made.arrow().sort_by("id")["age"].to_pylist()
    with pytest.raises(ConflictError, match="a table that has rows already"):
        genpipe.generate(model, rows=200, seed=1, output=f"{shop}#made")
    assert run("select count(*) from made")[0][0] == 200


def test_rows_go_into_the_table_that_is_there(shop: str, model: str) -> None:
    """With its own types and keys; what it does not take is not half in it."""
    run = command(shop)
    other = DDL[0].replace("people", "other").replace("varchar(9)", "varchar(40)")
    run(other.replace("integer", "bigint").replace("age bigint", "age smallint"))
    genpipe.generate(model, rows=100, output=f"{shop}#other")
    assert run("select count(*) from other where age between 20 and 69")[0][0] == 100
    run("create table narrow (id integer primary key, age integer)")
    with pytest.raises(DataError, match="no column code, fee, city"):
        genpipe.generate(model, rows=100, output=f"{shop}#narrow")
    young = "age smallint not null check (age < 30)"
    run(other.replace("other", "strict").replace("age integer not null", young))
    with pytest.raises(DataError, match=r"(?i)check"):
        genpipe.generate(model, rows=100, output=f"{shop}#strict")
    assert run("select count(*) from strict")[0][0] == 0
    assert run("select count(*) from genpipe_deliveries")[0][0] == 1


def test_a_delivery_of_two_at_once_is_one(shop: str, model: str) -> None:
    if shop.startswith("duckdb"):
        pytest.skip("DuckDB opens a file for one writer")
    made = genpipe.generate(model, rows=3000, workers=0)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write_tables, {"made": made}, shop) for _ in range(2)]:
            done.result()
    assert command(shop)("select count(*) from made")[0][0] == 3000


def test_a_killed_delivery_leaves_nothing(shop: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Dataset.batches

    def broken(self: Dataset, *args: Any, **more: Any) -> Iterator[pa.RecordBatch]:
        yield next(real(self, *args, **more)).slice(0, 10)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "batches", broken)
        with pytest.raises(KeyboardInterrupt):
            genpipe.generate(model, rows=100, output=f"{shop}#made")
    with pytest.raises(DataError, match="no table 'made'"):
        genpipe.ingest(f"{shop}#made")
    genpipe.generate(model, rows=100, output=f"{shop}#made")
    assert command(shop)("select count(*) from made")[0][0] == 100


def test_what_a_spec_cannot_say_is_a_comment(tmp_path: Path, home: Path) -> None:
    place = f"sqlite:///{tmp_path}/odd.db"
    run = command(place)
    for statement in ODD:
        run(statement)
    many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 40)"
    for table, values in {"people": "i, i, null, i", "teams": "i, i, 1", '[no "key": x]': "'a', i",
                          "both_": "i, i", "more": "i, 'x'", "parts": "i, i, i"}.items():  # fmt: skip
        run(f"{many} insert into {table} select {values} from n")
    run("insert into kinds values (1)")
    spec = tmp_path / "odd.yaml"
    spec.write_text(text := genpipe.relate(place))
    found = genpipe.validate(spec).tables
    assert found["people"].options == {"drop": ["photo"]} and "kinds" not in found
    assert found["both"].parent == "people" and found["both"].references == {"team": "teams"}
    assert found["no-key-x"].key is None and found["no-key-x"].parent == "people"
    assert found["more"].key == found["more"].foreign_key == "person"
    assert found["people"].references == {"boss": "people", "team": "teams"}  # a circle of tables
    assert found["teams"].references == {"head": "people"} and "kind -> kinds: a table of fewer" in text
    assert found["parts"].references == {"person, team": "both"}


def test_a_table_of_few_rows_is_nothing_to_learn(tmp_path: Path, home: Path) -> None:
    command(f"sqlite:///{tmp_path}/few.db")("create table t (a)")
    with pytest.raises(DataError, match="no table of 20 rows"):
        genpipe.relate(f"sqlite:///{tmp_path}/few.db")
