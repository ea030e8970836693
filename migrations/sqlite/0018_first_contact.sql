-- The last look before a person is contacted for the first time.

alter table lead add column approved_for text; -- the hold that a person has let the desired content out of; null once it has arrived or changed

-- Which leads have the same e-mail address, or had it when Conversica was told; filled while safety.duplicates asks for it.
create table lead_address (
    id        text    not null,
    client_id text    not null,
    tag       blob    not null, -- keyed hash of the address, as in table suppression
    date      integer,          -- the lead's own date
    primary key (id, client_id, tag)
) strict, without rowid;

create index lead_address_tag on lead_address (tag, client_id, date, length(id), id);

-- How each conversation has gone: a list that is not active at Conversica takes leads and writes to nobody.
create table conversation_progress (
    client       text    not null,
    name         text    not null, -- conversationId; '' for leads that go without
    contacted    integer not null default 0, -- people contacted for the first time
    contacted_at integer,          -- the first of them
    worked_at    integer,          -- the first sign that Conversica works one of its leads
    released_at  integer,          -- since when its leads are no longer held for want of such a sign
    primary key (client, name)
) strict, without rowid;

create index conversation_progress_open on conversation_progress (contacted_at) where worked_at is null;
create index conversation_progress_worked on conversation_progress (name) where worked_at is not null and released_at is null;

-- Each claim under a cap counts them.
create index tombstone_introduced on tombstone (introduced_at) where introduced_at is not null;
