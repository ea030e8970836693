-- The CRM of compose.yaml: 300 people who do not exist, made by PostgreSQL's image at its first start.
--
-- FOR THE DEMO ONLY: the passwords below stand in a public file.

create table leads (
    id             bigint generated always as identity primary key,
    first_name     text not null,
    last_name      text,
    email          text,
    phone          text,
    source         text,
    status         text not null default 'New',
    owner_name     text,
    owner_email    text,
    do_not_contact boolean not null default false,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
);

insert into leads (first_name, last_name, email, phone, source, status, owner_name, owner_email, do_not_contact, created_at, updated_at)
select
    (array['Ada', 'Ben', 'Cleo', 'Dan', 'Eve', 'Finn', 'Gail', 'Hugo', 'Iris', 'Jack'])[1 + n % 10],
    (array['Archer', 'Baker', 'Carter', 'Dyer', 'Fisher', 'Gardner', 'Hunter'])[1 + n % 7],
    -- Five of them lack their address: `plan` says so.
    case when n % 60 <> 0 then 'person' || n || '@example.com' end,
    '+1 555 010 ' || lpad(n::text, 4, '0'),
    (array['Website', 'Trade fair', 'Referral'])[1 + n % 3],
    (array['New', 'New', 'Working', 'Lost'])[1 + n % 4],
    (array['Tom Castellano', 'Rae Okafor'])[1 + n % 2],
    (array['tom@example.org', 'rae@example.org'])[1 + n % 2],
    n % 50 = 7,
    timestamptz '2026-01-01 08:00Z' + n * interval '7 hours',
    timestamptz '2026-01-01 08:00Z' + n * interval '7 hours'
from generate_series(1, 300) as n;

-- What polls go by: a stamp that changes with the row, whoever changes it, and an index on it.
create function touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;
create trigger touch before update on leads for each row execute function touch();
create index leads_updated_at on leads (updated_at);

-- Reads; and sees whether a transaction is still open, so that what commits late is not overtaken.
create role conversica_reader login password 'demo-only-reader';
grant select on leads to conversica_reader;
grant pg_read_all_stats to conversica_reader;

-- Writes what Conversica sends back, into tables of its own, which it makes itself.
create role conversica_writer login password 'demo-only-writer';
grant create on schema public to conversica_writer;
