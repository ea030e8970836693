-- What Conversica sends back. First as it came, then what is made of it.

-- Everything that was posted to the receiver by somebody with its credentials: one row for all arrivals of the same content.
create table event (
    seq          integer primary key autoincrement,
    kind         text    not null check (kind in ('lead_update', 'message', 'chat_lead')), -- by the path it was posted to
    id           text    not null, -- Conversica's "id" or "leadId"; '' for chat leads, and for what cannot be read
    client_id    text    not null, -- as table lead has it: '' where [source] client is not set
    received_at  integer not null, -- of the first arrival
    body         blob    not null, -- its bytes
    content_hash blob    not null unique, -- of kind, lead and content; of what cannot be read, of kind and bytes
    problem      text,             -- why it cannot be read; null for what can
    mended_as    integer,          -- of what could not be read: the event that was made of it after a fix
    repeats      integer not null default 0, -- later arrivals of the same content
    repeated_at  integer,          -- the newest of them
    applied_at   integer,          -- when it was taken into its lead's conversation; null before
    effect       text              -- of a Lead Update: JSON object with those of its keys that were news; null before
) strict;

create index event_lead on event (id, client_id, seq);
create index event_unapplied on event (seq) where applied_at is null and problem is null;
create index event_unreadable on event (seq) where problem is not null;

-- How much has been received, without counting rows: lead_update, message, chat_lead, unreadable (as they are stored),
-- repeat, unknown_lead, outside_vocabulary.
create table received_count (
    name  text    not null primary key,
    count integer not null
) strict;

-- One row a lead that was heard of: what all its Lead Updates come to.
create table conversation (
    id             text    not null,
    client_id      text    not null,
    picture        text    not null, -- JSON object: the keys of Lead Updates, as Conversica writes them
    versions       text    not null, -- JSON object: of what each value is, see conversica::conversation
    first_heard_at integer not null,
    last_heard_at  integer not null, -- Lead Updates and Messages
    primary key (id, client_id)
) strict;

-- The ledger of consent that was withdrawn or given: never changed, only added to.
create table consent (
    seq       integer primary key autoincrement,
    id        text    not null,
    client_id text    not null,
    channel   text    not null check (channel in ('email', 'sms')),
    given     integer not null check (given in (0, 1)),
    at        integer not null, -- since when, as far as was said; else when it was heard
    heard_at  integer not null,
    source    text    not null check (source in ('conversica', 'crm')),
    event_seq integer           -- the Lead Update that said it
) strict;

create index consent_lead on consent (id, client_id, channel);

-- Events that are still to be written to the CRM. A row goes when its event has arrived there.
create table writeback (
    event_seq       integer primary key,
    lane            text    not null, -- events of one lane arrive in their order: a lead, or a chat lead by itself
    status          text    not null check (status in ('waiting', 'stopped')),
    attempts        integer not null default 0,
    first_failed_at integer,
    due_at          integer not null,
    detail          text              -- what the database said to the newest try
) strict;

create index writeback_lane on writeback (lane, event_seq);
create index writeback_due on writeback (due_at) where status = 'waiting';

-- What people are to be told of, by [alerts].
create table alert (
    seq        integer primary key autoincrement,
    kind       text    not null, -- hot_lead, action_required, lead_at_risk
    id         text    not null,
    client_id  text    not null,
    occasion   text    not null unique, -- names what happened: it is told once
    body       text    not null, -- the JSON document that is handed over
    created_at integer not null,
    attempts   integer not null default 0,
    due_at     integer not null,
    done_at    integer,          -- handed over, or given up
    detail     text              -- what the newest try came to
) strict;

create index alert_due on alert (due_at) where done_at is null;
