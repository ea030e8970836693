-- What Conversica sends back. First as it came, then what is made of it.

-- Everything that was posted to the receiver by somebody with its credentials: one row for all arrivals of the same content.
create table event (
    seq          bigint generated always as identity primary key,
    kind         text    not null check (kind in ('lead_update', 'message', 'chat_lead')), -- by the path it was posted to
    id           text collate "C" not null, -- Conversica's "id" or "leadId"; '' for chat leads, and for what cannot be read
    client_id    text collate "C" not null, -- as table lead has it: '' where [source] client is not set
    received_at  bigint  not null, -- of the first arrival
    body         bytea   not null, -- its bytes
    content_hash bytea   not null unique, -- of kind, lead and content; of what cannot be read, of kind and bytes
    problem      text,             -- why it cannot be read; null for what can
    mended_as    bigint,          -- of what could not be read: the event that was made of it after a fix
    repeats      bigint  not null default 0, -- later arrivals of the same content
    repeated_at  bigint,          -- the newest of them
    applied_at   bigint,          -- when it was taken into its lead's conversation; null before
    effect       text              -- of a Lead Update: JSON object with those of its keys that were news; null before
);

create index event_lead on event (id, client_id, seq);
create index event_unapplied on event (seq) where applied_at is null and problem is null;
create index event_unreadable on event (seq) where problem is not null;

-- How much has been received, without counting rows: lead_update, message, chat_lead, unreadable (as they are stored),
-- repeat, unknown_lead, outside_vocabulary.
create table received_count (
    name  text    not null primary key,
    count bigint  not null
);

-- One row a lead that was heard of: what all its Lead Updates come to.
create table conversation (
    id             text collate "C" not null,
    client_id      text collate "C" not null,
    picture        text    not null, -- JSON object: the keys of Lead Updates, as Conversica writes them
    versions       text    not null, -- JSON object: of what each value is, see conversica::conversation
    first_heard_at bigint  not null,
    last_heard_at  bigint  not null, -- Lead Updates and Messages
    primary key (id, client_id)
);

-- The ledger of consent that was withdrawn or given: never changed, only added to.
create table consent (
    seq       bigint generated always as identity primary key,
    id        text collate "C" not null,
    client_id text collate "C" not null,
    channel   text    not null check (channel in ('email', 'sms')),
    given     bigint  not null check (given in (0, 1)),
    at        bigint  not null, -- since when, as far as was said; else when it was heard
    heard_at  bigint  not null,
    source    text    not null check (source in ('conversica', 'crm')),
    event_seq bigint            -- the Lead Update that said it
);

create index consent_lead on consent (id, client_id, channel);

-- Events that are still to be written to the CRM. A row goes when its event has arrived there.
create table writeback (
    event_seq       bigint  primary key,
    lane            text    not null, -- events of one lane arrive in their order: a lead, or a chat lead by itself
    status          text    not null check (status in ('waiting', 'stopped')),
    attempts        bigint  not null default 0,
    first_failed_at bigint,
    due_at          bigint  not null,
    detail          text              -- what the database said to the newest try
);

create index writeback_lane on writeback (lane, event_seq);
create index writeback_due on writeback (due_at) where status = 'waiting';

-- What people are to be told of, by [alerts].
create table alert (
    seq        bigint generated always as identity primary key,
    kind       text    not null, -- hot_lead, action_required, lead_at_risk
    id         text collate "C" not null,
    client_id  text collate "C" not null,
    occasion   text    not null unique, -- names what happened: it is told once
    body       text    not null, -- the JSON document that is handed over
    created_at bigint  not null,
    attempts   bigint  not null default 0,
    due_at     bigint  not null,
    done_at    bigint,          -- handed over, or given up
    detail     text              -- what the newest try came to
);

create index alert_due on alert (due_at) where done_at is null;
