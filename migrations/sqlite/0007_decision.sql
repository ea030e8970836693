-- Who decided what, about whom; and outcomes by the minute, for charts that need not read the journal.

-- What persons decided: one row a command or a press of a button.
create table decision (
    seq    integer primary key autoincrement,
    at     integer not null,
    action text    not null, -- approve, baseline, retry, resume
    who    text    not null, -- account and way, as far as is known: no more than a hint
    reason text,             -- what the leads were held for, or what had halted; null where there was more than one reason
    leads  integer not null  -- how many it concerned
) strict;

-- The leads that a decision concerned.
create table decided (
    id           text    not null,
    client_id    text    not null,
    decision_seq integer not null,
    primary key (id, client_id, decision_seq)
) strict, without rowid;

create index decided_by on decided (decision_seq);

create table outcome_minute (
    minute integer not null, -- minutes since 1970-01-01 UTC
    class  text    not null,
    count  integer not null,
    primary key (minute, class)
) strict, without rowid;
insert into outcome_minute (minute, class, count) select at / 60000000, class, count(*) from outcome
    where at >= (select max(at) from outcome) - 2764800000000 group by 1, 2;
