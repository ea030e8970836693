-- The processes that may send from this state, so that `status` can name them. Each renews its row every few seconds, and
-- removes it when it stops. Unlogged: renewing a row costs no write to the disk. After a crash of the server the table is empty
-- until the processes have written their rows again.

create unlogged table instance (
    -- Machine and process: `host:pid`, with `#2` for a second one of that name.
    name text primary key,
    -- The process, as table turn names it.
    holder text not null,
    -- The server's process of its session: a row whose session has ended belongs to a process that has ended.
    pid integer not null,
    -- In microseconds, by this server's clock: when it took its right to send, and its last sign of life.
    since bigint not null,
    last_seen bigint not null
);
