-- What was sent to a person stays known for as long as its outcomes; and who was erased is known without being known.

-- Contents that were sent and that table lead has no more: it keeps the newest and the one that was accepted last.
create table payload (
    seq       integer primary key autoincrement,
    id        text    not null,
    client_id text    not null,
    body      text    not null,
    at        integer not null -- when table lead lost it: no attempt that sent it is later
) strict;

create index payload_lead on payload (id, client_id);
create index payload_at on payload (at);

-- Whatever statement overwrites them. Of a content whose fingerprint is not known any more (after an ambiguous answer) it is
-- not asked whether it was sent.
create trigger lead_loses_delivered after update of desired, delivered, sent on lead
when old.delivered is not null and old.delivered is not new.delivered and old.delivered is not new.desired
    and old.delivered is not new.sent
    and (old.delivered_hash is null or exists (
        select 1 from outcome o where o.id = old.id and o.client_id = old.client_id and o.sent_hash = old.delivered_hash))
begin
    update payload set at = max(new.changed_at, coalesce(new.last_outcome_at, 0))
        where id = old.id and client_id = old.client_id and body = old.delivered;
    insert into payload (id, client_id, body, at)
        select old.id, old.client_id, old.delivered, max(new.changed_at, coalesce(new.last_outcome_at, 0))
        where not exists (select 1 from payload p where p.id = old.id and p.client_id = old.client_id and p.body = old.delivered);
end;

create trigger lead_loses_desired after update of desired, delivered, sent on lead
when old.desired is not null and old.desired is not new.desired and old.desired is not new.delivered
    and old.desired is not new.sent and old.last_outcome is not null and exists (
        select 1 from outcome o where o.id = old.id and o.client_id = old.client_id and o.sent_hash = old.desired_hash)
begin
    update payload set at = max(new.changed_at, coalesce(new.last_outcome_at, 0))
        where id = old.id and client_id = old.client_id and body = old.desired;
    insert into payload (id, client_id, body, at)
        select old.id, old.client_id, old.desired, max(new.changed_at, coalesce(new.last_outcome_at, 0))
        where not exists (select 1 from payload p where p.id = old.id and p.client_id = old.client_id and p.body = old.desired);
end;

create trigger lead_loses_sent after update of desired, delivered, sent on lead
when old.sent is not null and old.sent is not new.sent and old.sent is not new.desired and old.sent is not new.delivered
begin
    update payload set at = max(new.changed_at, coalesce(new.last_outcome_at, 0))
        where id = old.id and client_id = old.client_id and body = old.sent;
    insert into payload (id, client_id, body, at)
        select old.id, old.client_id, old.sent, max(new.changed_at, coalesce(new.last_outcome_at, 0))
        where not exists (select 1 from payload p where p.id = old.id and p.client_id = old.client_id and p.body = old.sent);
end;

-- Who was erased and is never to be written to again. Of the person no more than a keyed hash is kept: see state::tombstone.
create table tombstone (
    tag                blob    not null primary key, -- HMAC-SHA256 of client and id; its key is in control, as erasure_key
    at                 integer not null,
    email_withdrawn_at integer, -- since when they did not want e-mails, or text messages: it counts again if they come back
    sms_withdrawn_at   integer,
    introduced_at      integer, -- as in lead: caps and limits count who was written to, erased or not
    test_lead_at       integer
) strict, without rowid;
