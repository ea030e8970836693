-- An SQLite state has one instance, which needs neither turns nor a fence against others: there is nothing to add.
select 1;
