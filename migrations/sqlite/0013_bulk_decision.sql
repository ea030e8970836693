-- A decision about many leads is carried out in parts. It is listed with all its leads first, so that it can be continued after the
-- process has ended.

alter table decision add column unfinished integer not null default 0; -- 1: the listed leads have still to be changed
alter table decision add column until integer; -- a listed lead that was held, or answered, after this moment is left as it is
create index decision_unfinished on decision (seq) where unfinished = 1;

drop index decided_by;
create index decided_by on decided (decision_seq, id, client_id);
