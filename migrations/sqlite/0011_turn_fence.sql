-- Turns that one instance has at a time. An SQLite state has one instance, which needs neither turns nor a fence against
-- others: the table is there for both engines to have the same tables, and stays empty.
create table turn (
    name text primary key,
    holder text not null,
    pid integer not null,
    expires_at integer not null
);
