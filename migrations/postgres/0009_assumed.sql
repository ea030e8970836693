-- A baseline settles leads that were never sent: they are assumed known to Conversica, and do not count as delivered.

-- Set while no request of this lead was ever accepted, or may have been, and a baseline took it as known: since when.
-- Such a lead keeps the stored status of its kind ('in_sync' while its content is the assumed one); state::lead_status says
-- how it is shown. first_contact_at has the same moment, so that a withdrawal or a stop is sent as to any person who may be known.
alter table lead add column assumed_at bigint;

-- A baseline used to write its own moment as that of an acceptance. From now on delivered_at is set by acceptances alone.
update lead set assumed_at = first_contact_at, delivered_at = null
    where delivered_at = first_contact_at and delivered_hash is not null
    and (last_outcome is null or last_outcome_at < first_contact_at
         or first_contact_at in (select at from decision where action = 'baseline'));
update lead set delivered_at = null
    where delivered_at is not null and delivered_at in (select at from decision where action = 'baseline');

-- Shown as assumed: counted and listed without reading the others.
create index lead_assumed on lead (id, client_id, status, assumed_at) where status = 'in_sync' and assumed_at is not null;

-- The first request to an assumed lead counts as a first contact: it waits with those of new people.
drop index lead_due_known;
drop index lead_due_new;
create index lead_due_known on lead (due_at, id)
    where status in ('pending', 'retrying') and urgent = 0 and first_contact_at is not null and assumed_at is null;
create index lead_due_new on lead (due_at, id)
    where status in ('pending', 'retrying') and urgent = 0 and (first_contact_at is null or assumed_at is not null);

-- How many people a hold would have contacted for the first time, without reading each of them.
create index lead_held_new on lead (assumed_at, status, gone_at, first_contact_at)
    where status = 'held' and gone_at is null and (first_contact_at is null or assumed_at is not null);
