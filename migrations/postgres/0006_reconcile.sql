-- Whom Conversica does not work, and why people are told so, without reading every conversation.

alter table conversation add column not_worked text; -- its conversationStage where that is one of these; null otherwise

update conversation set not_worked = substring(picture from '"conversationStage":"([^"\\]*)"')
    where lower(substring(picture from '"conversationStage":"([^"\\]*)"')) in
        ('excluded', 'unworkable', 'lead stopped', 'client stopped', 'conversica stopped', 'stopped');

create index conversation_not_worked on conversation (id, client_id) where not_worked is not null;

-- What a reconciliation asks of a lead that has not changed is in the index too. Here it costs nothing to keep it there: an update
-- that changes status writes to every index anyway. SQLite would write to this one for each change of status, and reads the row.
drop index lead_compared;
create index lead_compared on lead (id_length, id, client_id, row_hash, gone_at, hold_reason)
    include (status, first_contact_at, last_outcome);
