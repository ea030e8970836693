-- Posts that are damaged and may withdraw consent: they count as a withdrawal until an operator has looked.

-- One row a post, lead and channel. It outlives the post.
create table possible_opt_out (
    seq        integer primary key autoincrement,
    event_seq  integer not null, -- the post
    id         text    not null, -- '' where the post names no lead
    client_id  text    not null,
    channel    text    not null check (channel in ('email', 'sms')),
    at         integer not null, -- when the post arrived
    settled_at integer,          -- null while an operator has to look
    decision   text check (decision in ('confirmed', 'dismissed', 'mended')),
    settled_by text,
    unique (event_seq, id, client_id, channel)
) strict;

create index possible_opt_out_lead on possible_opt_out (id, client_id, channel);
create index possible_opt_out_open on possible_opt_out (event_seq) where settled_at is null;

-- Of a post that cannot be read: when it was searched for a withdrawal, and when an operator has put it aside.
alter table event add column examined_at integer;
alter table event add column settled_at integer;

create index event_unexamined on event (seq) where problem is not null and examined_at is null;
