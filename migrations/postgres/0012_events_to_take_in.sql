-- A lead is not claimed while a post about it waits to be taken in: it may be an opt-out.

create index event_to_take_in on event (id, client_id) where applied_at is null and problem is null;
