-- The last look before a person is contacted for the first time.

alter table lead add column approved_for text; -- the hold that a person has let the desired content out of; null once it has arrived or changed

-- An instance of an earlier version of the program does not know that column either: an approval is for one content.
create or replace function raise_lead_version() returns trigger language plpgsql as $$
begin
    new.version := old.version + 1;
    if new.desired_hash is distinct from old.desired_hash then
        new.approved_for := null;
    end if;
    return new;
end $$;

-- Which leads have the same e-mail address, or had it when Conversica was told; filled while safety.duplicates asks for it.
create table lead_address (
    id        text collate "C" not null,
    client_id text collate "C" not null,
    tag       bytea  not null, -- keyed hash of the address, as in table suppression
    date      bigint,          -- the lead's own date
    primary key (id, client_id, tag)
);

create index lead_address_tag on lead_address (tag, client_id, date nulls first, length(id), id);

-- How each conversation has gone: a list that is not active at Conversica takes leads and writes to nobody.
create table conversation_progress (
    client       text collate "C" not null,
    name         text collate "C" not null, -- conversationId; '' for leads that go without
    contacted    bigint not null default 0, -- people contacted for the first time
    contacted_at bigint,          -- the first of them
    worked_at    bigint,          -- the first sign that Conversica works one of its leads
    released_at  bigint,          -- since when its leads are no longer held for want of such a sign
    primary key (client, name)
);

create index conversation_progress_open on conversation_progress (contacted_at) where worked_at is null;
create index conversation_progress_worked on conversation_progress (name) where worked_at is not null and released_at is null;

-- Each claim under a cap counts them.
create index tombstone_introduced on tombstone (introduced_at) where introduced_at is not null;
