-- Whom Conversica does not work, and why people are told so, without reading every conversation.

alter table conversation add column not_worked text; -- its conversationStage where that is one of these; null otherwise

update conversation set not_worked = substring(picture from '"conversationStage":"([^"\\]*)"')
    where lower(substring(picture from '"conversationStage":"([^"\\]*)"')) in
        ('excluded', 'unworkable', 'lead stopped', 'client stopped', 'conversica stopped', 'stopped');

create index conversation_not_worked on conversation (id, client_id) where not_worked is not null;
