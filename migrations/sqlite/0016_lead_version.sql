-- Grows with every change of the row: who has the record in memory finds out whether it is still the newest.

alter table lead add column version integer not null default 0;
