-- A row of the source that has not changed is known by its hash alone, in the order in which the source is read.

alter table lead add column row_hash integer; -- of the row that desired was made of; null: to be looked at
alter table lead add column id_length integer generated always as (length(cast(id as blob))) virtual; -- in bytes: whole numbers sort by it

-- It holds all that a full compare asks of a lead that has not changed.
create index lead_compared on lead (id_length, id, client_id, row_hash, gone_at);
