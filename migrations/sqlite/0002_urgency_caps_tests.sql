-- Withdrawals of consent go first, whatever becomes of their first attempt; what a person approves is what was shown;
-- people contacted for the first time, test leads and
-- outcomes are counted without reading the whole journal.

alter table lead add column urgent integer not null default 0; -- 1: desired withdraws consent that delivered does not
alter table lead add column held_at integer;       -- since when it waits for a person with this content
alter table lead add column introduced_at integer; -- when it was claimed for the first contact, while a cap counts those
alter table lead add column test_lead_at integer;  -- when it was first sent with the Test Lead Token

update lead set urgent = 1 where status <> 'in_sync' and due_at = 0;
update lead set due_at = changed_at where status <> 'in_sync' and due_at = 0;
update lead set held_at = changed_at where status <> 'in_sync' and hold_reason is not null;

-- One index for each group that a claim chooses from, so that a backlog of one never has to be skipped for another.
drop index lead_due;
create index lead_due_urgent on lead (due_at, id) where status in ('pending', 'retrying') and urgent = 1;
create index lead_due_known on lead (due_at, id)
    where status in ('pending', 'retrying') and urgent = 0 and first_contact_at is not null;
create index lead_due_new on lead (due_at, id)
    where status in ('pending', 'retrying') and urgent = 0 and first_contact_at is null;
create index lead_introduced on lead (introduced_at) where introduced_at is not null;
create index lead_tested on lead (test_lead_at) where test_lead_at is not null;

-- How many outcomes of each class there have been, ever.
create table outcome_count (
    class text not null primary key,
    count integer not null
) strict;
insert into outcome_count (class, count) select class, count(*) from outcome group by class;
