-- Grows with every change of the row: who has the record in memory finds out whether it is still the newest.

alter table lead add column version bigint not null default 0;

-- An instance of an earlier version of the program does not know the column.
create function raise_lead_version() returns trigger language plpgsql as $$
begin
    new.version := old.version + 1;
    return new;
end $$;
create trigger raise_lead_version before update on lead for each row when (new.version = old.version)
    execute function raise_lead_version();
