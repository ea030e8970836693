-- People who are never to be written to: known by keyed hashes alone.

-- One row a source of each entry. A lead of that address, number or domain is not introduced; if Conversica knows it, it is opted out.
create table suppression (
    tag        blob    not null, -- keyed hash of the address, number or domain; its key is in control, as suppression_key
    kind       text    not null check (kind in ('address', 'number', 'domain')),
    source     text    not null check (source in ('list', 'query', 'conversica', 'crm')),
    id         text    not null, -- the lead that the opt-out comes from; '' where it comes from no lead, or from an erased one
    client_id  text    not null,
    at         integer not null, -- since when it counts
    read_at    integer,          -- of source 'query': when the query last returned it
    removed_at integer,          -- it counts no more; the row goes once the leads have been looked at
    primary key (tag, source, id, client_id)
) strict, without rowid;

create index suppression_kind on suppression (source, kind);
create index suppression_read on suppression (read_at) where read_at is not null;
create index suppression_removed on suppression (removed_at) where removed_at is not null;
create index suppression_lead on suppression (id, client_id) where id <> '';

-- A lead may be suppressed. The condition is changed in place, because a copy of the table would take minutes and room.
pragma writable_schema = on;
update sqlite_schema set sql = replace(sql, '''exhausted'', ''gone'')', '''exhausted'', ''gone'', ''suppressed'')')
    where type = 'table' and name = 'lead';
pragma writable_schema = reset;
-- Makes other connections read the schema again.
create index lead_suppressed on lead (id, client_id) where status = 'suppressed';
