//! Tables of frameworks and CRMs that spread one record over several tables, or keep staff and leads side by side. Each
//! has a few made-up people; the addresses of staff end in `staff.example`.

use super::engine::Engine;

/// Django: a lead is a person (multi-table inheritance), and the framework's own users have addresses too.
pub const DJANGO: &str = r#"
create table auth_user (id integer primary key, password varchar(128) not null, last_login timestamp, is_superuser boolean not null, username varchar(150) not null unique,
    first_name varchar(150) not null, last_name varchar(150) not null, email varchar(254) not null, is_staff boolean not null, is_active boolean not null, date_joined timestamp not null);
create table crm_person (id integer primary key, first_name varchar(50), last_name varchar(50), email varchar(254), phone varchar(30), is_deleted boolean not null,
    unsubscribed boolean not null, massmail boolean not null, modified timestamp, owner_id integer references auth_user (id));
create table crm_lead (person_ptr_id integer primary key references crm_person (id), lead_source varchar(50), status varchar(20), disqualified boolean not null, updated_at timestamp);
insert into auth_user values (1, 'pbkdf2', null, TRUE, 'rae', 'Rae', 'Rep', 'rae@staff.example', TRUE, TRUE, '2026-01-01 00:00:00'),
    (2, 'pbkdf2', null, FALSE, 'sam', 'Sam', 'Seller', 'sam@staff.example', TRUE, TRUE, '2026-01-01 00:00:00'),
    (3, 'pbkdf2', null, FALSE, 'tom', 'Tom', 'Trainee', 'tom@staff.example', FALSE, TRUE, '2026-01-01 00:00:00');
insert into crm_person values (1, 'Ann', 'Bell', 'ann@example.net', '555-010-1010', FALSE, FALSE, TRUE, '2026-03-09 10:00:00', 1),
    (2, 'Bo', 'Dyck', 'bo@example.net', null, TRUE, FALSE, TRUE, '2026-03-02 10:00:00', 1),
    (3, 'Cy', 'Ask', 'cy@example.net', null, FALSE, TRUE, FALSE, '2026-03-02 10:00:00', 2),
    (4, 'Di', 'Elk', 'di@example.net', null, FALSE, FALSE, TRUE, null, 2),
    (5, 'Ed', 'Fox', 'ed@example.net', null, FALSE, FALSE, TRUE, '2026-03-02 10:00:00', 2);
insert into crm_lead values (1, 'Web', 'new', FALSE, '2026-03-03 10:00:00'), (2, 'Web', 'new', FALSE, '2026-03-03 10:00:00'), (3, 'Fair', 'new', FALSE, '2026-03-04 10:00:00'),
    (4, 'Fair', 'new', FALSE, '2026-03-05 10:00:00'), (5, 'Fair', 'new', TRUE, null);
"#;

/// Creme: every record is an entity with its owner, its time of change and its trash mark; addresses are records of their
/// own; a contact has a mark when it is a user.
pub const CREME: &str = r#"
create table creme_core_cremeuser (id integer primary key, password varchar(128) not null, last_login timestamp, username varchar(30) not null unique, last_name varchar(100) not null,
    first_name varchar(100) not null, email varchar(254) not null, is_superuser boolean not null, is_staff boolean not null, is_active boolean not null);
create table creme_core_cremeentity (id integer primary key, created timestamp not null, modified timestamp not null, is_deleted boolean not null, uuid char(32) not null,
    header_filter_search_field varchar(200), description text not null, user_id integer not null references creme_core_cremeuser (id));
create table persons_civility (id integer primary key, title varchar(100) not null, shortcut varchar(100) not null);
create table persons_address (cremeentity_ptr_id integer primary key references creme_core_cremeentity (id), name varchar(100) not null, address text not null, po_box varchar(50) not null,
    zipcode varchar(100) not null, city varchar(100) not null, department varchar(100) not null, state varchar(100) not null, country varchar(40) not null);
create table persons_contact (cremeentity_ptr_id integer primary key references creme_core_cremeentity (id), last_name varchar(100) not null, first_name varchar(100) not null,
    phone varchar(100) not null, mobile varchar(100) not null, email varchar(100) not null, civility_id integer references persons_civility (id),
    billing_address_id integer references persons_address (cremeentity_ptr_id), shipping_address_id integer references persons_address (cremeentity_ptr_id),
    is_user_id integer unique references creme_core_cremeuser (id));
insert into creme_core_cremeuser values (1, 'pbkdf2', null, 'rae', 'Rep', 'Rae', 'rae@staff.example', TRUE, FALSE, TRUE), (2, 'pbkdf2', null, 'sam', 'Seller', 'Sam', 'sam@staff.example', FALSE, FALSE, TRUE);
insert into creme_core_cremeentity values (1, '2026-01-01 10:00:00', '2026-03-01 10:00:00', FALSE, 'a', '', '', 1), (2, '2026-01-01 10:00:00', '2026-03-02 10:00:00', FALSE, 'b', '', '', 1),
    (3, '2026-01-01 10:00:00', '2026-03-03 10:00:00', TRUE, 'c', '', '', 1), (4, '2026-01-01 10:00:00', '2026-03-04 10:00:00', FALSE, 'd', '', '', 2), (5, '2026-01-01 10:00:00', '2026-03-04 10:00:00', FALSE, 'e', '', '', 2);
insert into persons_civility values (1, 'Madam', 'Mrs.');
insert into persons_address values (1, 'Home', '1 Main St', '', '94016', 'Oakland', '', 'California', 'US');
insert into persons_contact values (2, 'Bell', 'Ann', '555-010-1010', '', 'ann@example.net', 1, 1, null, null), (3, 'Dyck', 'Bo', '', '', 'bo@example.net', null, null, null, null),
    (4, 'Seller', 'Sam', '', '', 'sam@staff.example', null, null, null, 2), (5, 'Ask', 'Cy', '', '', 'cy@example.net', null, null, null, null);
"#;

/// Tryton: parties, their mail addresses among their contact mechanisms, opportunities, employees who are parties, and users.
pub const TRYTON: &str = r#"
create table party_party (id integer primary key, name varchar(100), code varchar(20), active boolean, create_date timestamp, write_date timestamp);
create table party_address (id integer primary key, party integer not null references party_party (id), street varchar(100), postal_code varchar(20), city varchar(50), active boolean, write_date timestamp);
create table party_contact_mechanism (id integer primary key, party integer not null references party_party (id), type varchar(20) not null, value varchar(100), active boolean, write_date timestamp);
create table company_employee (id integer primary key, party integer not null references party_party (id), company integer, active boolean);
create table res_user (id integer primary key, name varchar(50), login varchar(50) not null, password_hash varchar(100), email varchar(100), employee integer references company_employee (id), active boolean, write_date timestamp);
create table sale_opportunity (id integer primary key, party integer references party_party (id), contact integer references party_party (id), address integer references party_address (id), employee integer references company_employee (id),
    state varchar(20) not null, description varchar(100), amount numeric, start_date date, create_date timestamp, write_date timestamp);
insert into party_party values (1, 'Ann Bell', '1', TRUE, '2026-01-01 10:00:00', '2026-03-01 10:00:00'), (2, 'Bo Dyck', '2', FALSE, '2026-01-01 10:00:00', '2026-03-01 10:00:00'), (3, 'Rae Rep', '3', TRUE, '2026-01-01 10:00:00', null);
insert into party_address values (1, 1, '1 Main St', '94016', 'Oakland', TRUE, null);
insert into party_contact_mechanism values (1, 1, 'phone', '+1 555 010 1010', TRUE, null), (2, 1, 'email', 'ann@example.net', TRUE, '2026-03-05 10:00:00'), (3, 2, 'email', 'bo@example.net', TRUE, null), (4, 3, 'mobile', '+1 555 010 1011', TRUE, null);
insert into company_employee values (1, 3, 1, TRUE);
insert into res_user values (1, 'Rae', 'rae', 'x', 'rae@staff.example', 1, TRUE, null), (2, 'Admin', 'admin', 'x', 'admin@staff.example', null, TRUE, null);
insert into sale_opportunity values (1, 1, null, 1, 1, 'lead', 'Ten desks', 10, '2026-03-01', '2026-03-01 10:00:00', '2026-03-02 10:00:00'), (2, 2, null, null, 1, 'lead', 'Two desks', 2, '2026-03-01', '2026-03-01 10:00:00', null);
"#;

/// Prisma: camelCase names in quotes; on SQLite, times are milliseconds.
pub fn prisma(engine: Engine) -> String {
    let text = r#"
create table "User" ("id" text not null primary key, "name" text, "email" text not null unique, "passwordHash" text, "role" text not null, "createdAt" timestamp not null, "updatedAt" timestamp not null);
create table "Lead" ("id" text not null primary key, "firstName" text not null, "lastName" text, "email" text, "phoneNumber" text, "leadSource" text, "ownerId" text references "User" ("id"),
    "optedOut" boolean not null default FALSE, "isArchived" boolean not null default FALSE, "newsletter" boolean not null default FALSE, "isTest" boolean not null default FALSE, "createdAt" timestamp not null, "updatedAt" timestamp not null, "deletedAt" timestamp);
insert into "User" values ('u1', 'Rae Rep', 'rae@staff.example', 'x', 'ADMIN', '2026-01-01 00:00:00', '2026-01-01 00:00:00');
insert into "Lead" values ('l1', 'Ann', 'Bell', 'ann@example.net', '555-010-1010', 'Web', 'u1', FALSE, FALSE, TRUE, FALSE, '2026-03-01 10:00:00', '2026-03-02 10:00:00', null),
    ('l2', 'Bo', 'Dyck', 'bo@example.net', null, 'Web', 'u1', TRUE, FALSE, FALSE, FALSE, '2026-03-01 10:00:00', '2026-03-02 10:00:00', null),
    ('l3', 'Cy', 'Ask', 'cy@example.net', null, 'Web', 'u1', FALSE, FALSE, FALSE, FALSE, '2026-03-01 10:00:00', '2026-03-02 10:00:00', '2026-03-03 10:00:00'),
    ('l4', 'Di', 'Elk', 'di@example.net', null, 'Web', 'u1', FALSE, TRUE, FALSE, FALSE, '2026-03-01 10:00:00', '2026-03-02 10:00:00', null);
"#;
    let milliseconds = [
        ("'2026-01-01 00:00:00'", "1767225600000"),
        ("'2026-03-01 10:00:00'", "1772359200000"),
        ("'2026-03-02 10:00:00'", "1772445600000"),
        ("'2026-03-03 10:00:00'", "1772532000000"),
    ];
    let numbers = milliseconds.iter().fold(text.to_owned(), |text, (time, number)| text.replace(time, number));
    engine.pick(numbers.replace("timestamp", "datetime"), text.to_owned())
}
