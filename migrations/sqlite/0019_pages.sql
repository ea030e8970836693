-- What the pages of operators read: leads by the time of their last change, and what a person wrote beside a decision.

create index lead_changed on lead (changed_at, id, client_id);

alter table decision add column comment text; -- what the operator wrote; null for none
