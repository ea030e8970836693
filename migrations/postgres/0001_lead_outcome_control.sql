-- Instants are microseconds since 1970-01-01 UTC, as integers: the same text sorts and compares alike on both engines.

-- One row a lead: what Conversica should hold (desired), what it holds as far as we know (delivered), and what is due.
create table lead (
    id               text collate "C" not null, -- the source's key, as text; Conversica's "id"
    client_id        text collate "C" not null, -- the source's client, '' where none is configured; Conversica's "clientId"
    status           text    not null check (status in ('in_sync', 'pending', 'in_flight', 'retrying', 'held', 'invalid',
                                                        'rejected', 'exhausted', 'gone')),
    desired          text,             -- canonical Lead object; null while the row is invalid
    desired_hash     bytea not null, -- fingerprint of desired, or of invalid_reasons
    invalid_reasons  text,             -- JSON array of sentences; null while the row is valid
    hold_reason      text,             -- why it waits for a person; null when it does not
    delivered        text,             -- the Lead object last accepted; null where it is desired itself (equal hashes)
    delivered_hash   bytea,             -- its fingerprint; null when never accepted, or when a later answer was ambiguous
    delivered_at     bigint,
    first_contact_at bigint,          -- when Conversica first took, or may have taken, this lead
    sent             text,             -- the body in flight, kept only when desired has changed since the claim
    sent_hash        bytea,             -- fingerprint of the body in flight
    claimed_at       bigint,          -- names the claim: an outcome is recorded only for the claim it belongs to
    lease_until      bigint,          -- a claim older than this has lost its worker
    attempts         bigint not null, -- since desired last changed or a person put it back
    first_failed_at  bigint,          -- first failure of the present series
    due_at           bigint,          -- when it may be sent; meaningful while pending or retrying
    last_outcome     text,             -- class, status and detail of the newest outcome
    last_http_status bigint,
    last_detail      text,
    last_outcome_at  bigint,
    changed_at       bigint not null, -- when desired last changed
    gone_at          bigint,          -- when the row was found missing from the source
    primary key (id, client_id)
);

create index lead_due on lead (due_at, id) where status in ('pending', 'retrying');
-- What is not settled is little: this index stays small, and counting needs no more. A condition that is to use it says
-- "status <> 'in_sync'" in so many words.
create index lead_unsettled on lead (status) where status <> 'in_sync';

-- The journal: one row an attempt, never changed.
create table outcome (
    seq         bigint generated always as identity primary key,
    id          text collate "C" not null,
    client_id   text collate "C" not null,
    at          bigint not null,
    class       text    not null check (class in ('accepted', 'rejected', 'transient', 'ambiguous', 'halting')),
    http_status bigint,
    detail      text,
    duration_ms bigint,
    attempt     bigint not null,
    sent_hash   bytea
);

create index outcome_lead on outcome (id, client_id, seq);

-- Facts of which there is one each, as JSON: halt, hold, last_poll, first_run, verified_credentials, outcome_counts.
create table control (
    name text    not null primary key,
    body text    not null,
    at   bigint not null
);
