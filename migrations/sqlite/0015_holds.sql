-- Which hold is in force is asked of the leads that are held.

create index lead_hold on lead (hold_reason, status, held_at) where hold_reason is not null;
delete from control where name in ('hold', 'kept_back');
