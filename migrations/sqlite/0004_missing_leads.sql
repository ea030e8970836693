-- Leads whose rows are missing together with most others are held until a person, or the source, says what that means.

alter table lead add column status_before text; -- where it stood before it was held for source_shrank; null otherwise

-- Leads that a person let go while Conversica may still write to them: each is still to be told so, once. Few, and soon over.
create index lead_stop_owed on lead (id, client_id) where status = 'gone' and urgent = 1;
