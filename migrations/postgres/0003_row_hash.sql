-- A row of the source that has not changed is known by its hash alone, in the order in which the source is read.

alter table lead add column row_hash bigint; -- of the row that desired was made of; null: to be looked at
alter table lead add column id_length bigint generated always as (octet_length(id)) stored; -- in bytes: whole numbers sort by it

-- It holds all that a full compare asks of a lead that has not changed.
create index lead_compared on lead (id_length, id, client_id, row_hash, gone_at);
