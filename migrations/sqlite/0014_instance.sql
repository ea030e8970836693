-- The processes that may send from this state. The lock file beside an SQLite state names the only one: the table is there for
-- both engines to have the same tables, and stays empty.

create table instance (
    name text primary key,
    holder text not null,
    pid integer not null,
    since integer not null,
    last_seen integer not null
);
