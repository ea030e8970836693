-- What was sent to a person stays known for as long as its outcomes; and who was erased is known without being known.

-- Contents that were sent and that table lead has no more: it keeps the newest and the one that was accepted last.
create table payload (
    seq       bigint generated always as identity primary key,
    id        text   not null collate "C",
    client_id text   not null collate "C",
    body      text   not null,
    at        bigint not null -- when table lead lost it: no attempt that sent it is later
);

create index payload_lead on payload (id, client_id);
create index payload_at on payload (at);

-- Keeps a content, once.
create function keep_payload(of_id text, of_client_id text, content text, moment bigint) returns void
language plpgsql set search_path from current as $$
begin
    update payload set at = moment where id = of_id and client_id = of_client_id and body = content;
    if not found then
        insert into payload (id, client_id, body, at) values (of_id, of_client_id, content, moment);
    end if;
end $$;

-- Whatever statement overwrites them. Of a content whose fingerprint is not known any more (after an ambiguous answer) it is
-- not asked whether it was sent.
create function lead_loses_content() returns trigger language plpgsql set search_path from current as $$
declare
    moment bigint := greatest(new.changed_at, new.last_outcome_at);
begin
    if old.delivered is not null and old.delivered is distinct from new.delivered and old.delivered is distinct from new.desired
        and old.delivered is distinct from new.sent
        and (old.delivered_hash is null or exists (
            select 1 from outcome o where o.id = old.id and o.client_id = old.client_id and o.sent_hash = old.delivered_hash))
    then
        perform keep_payload(old.id, old.client_id, old.delivered, moment);
    end if;
    if old.desired is not null and old.desired is distinct from new.desired and old.desired is distinct from new.delivered
        and old.desired is distinct from new.sent and exists (
            select 1 from outcome o where o.id = old.id and o.client_id = old.client_id and o.sent_hash = old.desired_hash)
    then
        perform keep_payload(old.id, old.client_id, old.desired, moment);
    end if;
    if old.sent is not null and old.sent is distinct from new.sent and old.sent is distinct from new.desired
        and old.sent is distinct from new.delivered
    then
        perform keep_payload(old.id, old.client_id, old.sent, moment);
    end if;
    return null;
end $$;

create trigger lead_loses_content after update of desired, delivered, sent on lead for each row
when (old.delivered is not null and old.delivered is distinct from new.delivered and old.delivered is distinct from new.desired
        and old.delivered is distinct from new.sent
    or old.desired is not null and old.last_outcome is not null and old.desired is distinct from new.desired
        and old.desired is distinct from new.delivered and old.desired is distinct from new.sent
    or old.sent is not null and old.sent is distinct from new.sent and old.sent is distinct from new.desired
        and old.sent is distinct from new.delivered)
execute function lead_loses_content();

-- Who was erased and is never to be written to again. Of the person no more than a keyed hash is kept: see state::tombstone.
create table tombstone (
    tag                bytea  not null primary key, -- HMAC-SHA256 of client and id; its key is in control, as erasure_key
    at                 bigint not null,
    email_withdrawn_at bigint, -- since when they did not want e-mails, or text messages: it counts again if they come back
    sms_withdrawn_at   bigint,
    introduced_at      bigint, -- as in lead: caps and limits count who was written to, erased or not
    test_lead_at       bigint
);
