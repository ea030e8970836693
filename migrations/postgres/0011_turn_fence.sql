-- Turns that one instance has at a time, and a fence against what a poll writes after it has lost its turn.

-- A turn (to poll, to write to the CRM) is a lease that its holder renews. Its time is that of this server's clock, so that the
-- clocks of the instances need not agree. Unlogged: renewing it costs no write to the disk. After a crash of the server the table is
-- empty, and any instance may take the turn: the fence still refuses what an older poll has read.
create unlogged table turn (
    name text primary key,
    -- Which process has it, and the server's process of its session: one that has ended has given the turn back.
    holder text not null,
    pid integer not null,
    expires_at timestamptz not null
);

-- The sessions in which a poll writes name the fence that the poll has raised (see sync::fence); all others name none. While such a
-- statement's transaction is open, the row of the fence is locked: an instance that raises another fence waits for it, and
-- what is written after that finds another fence and fails.
create function refuse_stale_poll() returns trigger language plpgsql as $$
declare
    fence text := coalesce(current_setting('conversica_sync.fence', true), '');
begin
    if fence <> '' then
        perform 1 from control where name = 'polling' and body || ' ' || at = fence for share;
        if not found then
            raise exception 'another instance has taken over polling meanwhile: what this poll has found is left to it'
                using errcode = 'serialization_failure';
        end if;
    end if;
    return null;
end
$$;

create trigger refuse_stale_poll before insert or update or delete on lead
    for each statement execute function refuse_stale_poll();
create trigger refuse_stale_poll before insert or update or delete on control
    for each statement execute function refuse_stale_poll();
create trigger refuse_stale_poll before insert or update or delete on consent
    for each statement execute function refuse_stale_poll();
