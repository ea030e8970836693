//! Tables of well-known CRMs as their own installers create them (the columns that a mapping can meet, and enough others
//! to interfere), and hand-made tables in several languages. Each has a few made-up people.

use super::engine::Engine;
use super::scene::Scene;

/// A scene whose CRM has these tables, without a configuration yet.
pub fn scene(engine: Engine, tables: &str) -> Scene {
    let scene = Scene::on(engine, "http://127.0.0.1:9/json/", 0);
    scene.crm("drop table leads");
    match engine {
        // One statement at a time.
        Engine::Sqlite => tables.split_inclusive(";\n").filter(|sql| !sql.trim().is_empty()).for_each(|sql| {
            scene.crm(sql);
        }),
        Engine::Postgres => drop(scene.crm(tables)),
    }
    scene
}

/// Odoo 16 or newer: translated names are `jsonb`. PostgreSQL only, as Odoo itself.
pub const ODOO: &str = r#"
create table res_company (id serial primary key, name varchar not null, create_date timestamp, write_date timestamp);
create table res_partner (id serial primary key, company_id int references res_company, create_date timestamp, name varchar,
    parent_id int, user_id int, state_id int, country_id int, color int, active boolean, type varchar, street varchar, zip varchar,
    city varchar, email varchar, email_normalized varchar, phone varchar, mobile varchar, is_company boolean, is_blacklisted boolean,
    commercial_partner_id int, write_date timestamp);
create table res_users (id serial primary key, company_id int not null references res_company, partner_id int not null references res_partner,
    active boolean default true, create_date timestamp, login varchar not null unique, password varchar, action_id int,
    notification_type varchar not null default 'email', signature text, share boolean, write_date timestamp);
create table utm_source (id serial primary key, create_uid int, name varchar not null unique, create_date timestamp, write_date timestamp);
create table utm_medium (id serial primary key, name varchar not null, active boolean, create_date timestamp, write_date timestamp);
create table utm_campaign (id serial primary key, name varchar not null, title jsonb, create_date timestamp, write_date timestamp);
create table crm_team (id serial primary key, name jsonb not null, sequence int, active boolean, write_date timestamp);
create table crm_stage (id serial primary key, sequence int, name jsonb not null, is_won boolean, requirements text, fold boolean, write_date timestamp);
create table crm_lost_reason (id serial primary key, name jsonb not null, active boolean);
create table res_country (id serial primary key, name jsonb not null, code varchar(2));
create table res_country_state (id serial primary key, country_id int not null references res_country, name varchar not null, code varchar not null);
create table res_partner_title (id serial primary key, name jsonb not null);
create table mail_blacklist (id serial primary key, message_main_attachment_id int, create_uid int, email varchar not null unique,
    active boolean, create_date timestamp, write_uid int, write_date timestamp);
create table crm_lead (id serial primary key, campaign_id int references utm_campaign, source_id int references utm_source on delete set null,
    medium_id int references utm_medium, message_bounce int, user_id int references res_users, team_id int references crm_team,
    company_id int references res_company, stage_id int references crm_stage, color int, recurring_plan int, partner_id int references res_partner,
    title int references res_partner_title, lang_id int, state_id int references res_country_state, country_id int references res_country,
    lost_reason_id int references crm_lost_reason, create_uid int references res_users, write_uid int references res_users,
    phone_sanitized varchar, email_normalized varchar, email_cc varchar, name varchar not null, referred varchar,
    type varchar not null, priority varchar, contact_name varchar, partner_name varchar, function varchar, email_from varchar,
    email_domain_criterion varchar, phone varchar, mobile varchar, phone_state varchar, email_state varchar, website varchar,
    street varchar, street2 varchar, zip varchar, city varchar, date_deadline date, lead_properties jsonb, duration_tracking jsonb,
    description text, expected_revenue numeric, prorated_revenue numeric, active boolean default true, date_closed timestamp,
    date_automation_last timestamp, date_open timestamp, date_last_stage_update timestamp, date_conversion timestamp,
    create_date timestamp, write_date timestamp, day_open double precision, day_close double precision, probability double precision,
    automated_probability double precision);
insert into res_company (name) values ('My Company');
insert into res_partner (company_id, name, email) values (1, 'Marc Demo', 'marc.demo@example.com'), (1, 'Ready Mat', 'mat@example.org');
insert into res_users (company_id, partner_id, login) values (1, 1, 'demo');
insert into utm_source (name) values ('Search engine'), ('Newsletter');
insert into crm_team (name) values ('{"en_US": "Sales"}');
insert into crm_stage (name) values ('{"en_US": "New", "de_DE": "Neu"}'), ('{"en_US": "Qualified", "de_DE": "Qualifiziert"}'), ('{"en_US": "Won"}');
insert into res_country (name, code) values ('{"en_US": "United States"}', 'US');
insert into res_country_state (country_id, name, code) values (1, 'California', 'CA');
insert into mail_blacklist (email, active, write_date) values ('carl@example.net', true, '2026-03-05 09:00:00'), ('ann@example.net', false, '2026-02-01 00:00:00');
insert into crm_lead (user_id, team_id, company_id, stage_id, source_id, state_id, email_normalized, email_from, name, type, contact_name, partner_name,
    phone, mobile, street, zip, city, active, create_date, write_date) values
    (1, 1, 1, 1, 1, 1, 'ann@example.net', 'Ann Bell <ann@example.net>', 'Interest in your products', 'lead', 'Ann Bell', 'Bell Ltd', '+1 555 0101', null, '1 Main St', '94016', 'Oakland', true, '2026-03-01 10:00:00', '2026-03-02 10:00:00.123456'),
    (1, 1, 1, 2, 2, 1, 'bo@example.net', 'bo@example.net', 'Needs 20 desks', 'opportunity', 'Bo van Dyck', null, null, '+1 555 0102', null, null, null, true, '2026-03-01 11:00:00', '2026-03-02 11:00:00'),
    (1, 1, 1, 1, 1, null, 'carl@example.net', 'carl@example.net', 'Carl asks', 'lead', 'Carl', null, null, null, null, null, null, true, '2026-03-01 12:00:00', '2026-03-02 12:00:00'),
    (1, 1, 1, 1, 1, null, 'dora@example.net', 'dora@example.net', 'Lost', 'lead', 'Dora Lost', null, null, null, null, null, null, false, '2026-03-01 12:00:00', '2026-03-02 12:00:00'),
    (null, 1, 1, 1, null, null, null, null, 'No address', 'lead', 'Emil', null, null, null, null, null, null, true, '2026-03-01 12:00:00', '2026-03-02 12:00:00');
"#;

/// SuiteCRM's tables; it has no foreign keys, and keeps addresses in tables of their own.
pub fn suitecrm(engine: Engine) -> String {
    let text = r#"
create table users (id char(36) not null primary key, user_name varchar(60), user_hash varchar(255), first_name varchar(255), last_name varchar(255),
    is_admin BOOL default FALSE, date_entered DATETIME, date_modified DATETIME, modified_user_id char(36), created_by char(36), title varchar(50),
    department varchar(50), phone_home varchar(50), phone_mobile varchar(50), phone_work varchar(50), status varchar(100), deleted BOOL default FALSE);
create table leads (id char(36) not null primary key, date_entered DATETIME, date_modified DATETIME, modified_user_id char(36), created_by char(36),
    description text, deleted BOOL default FALSE, assigned_user_id char(36), salutation varchar(255), first_name varchar(100), last_name varchar(100),
    title varchar(100), photo varchar(255), department varchar(100), do_not_call BOOL default FALSE, phone_home varchar(100), phone_mobile varchar(100),
    phone_work varchar(100), phone_other varchar(100), phone_fax varchar(100), lawful_basis text, date_reviewed date, lawful_basis_source varchar(100),
    primary_address_street varchar(150), primary_address_city varchar(100), primary_address_state varchar(100), primary_address_postalcode varchar(20),
    primary_address_country varchar(255), alt_address_street varchar(150), alt_address_city varchar(100), assistant varchar(75), converted BOOL default FALSE,
    refered_by varchar(100), lead_source varchar(100), lead_source_description text, status varchar(100), status_description text,
    reports_to_id char(36), account_name varchar(255), account_description text, contact_id char(36), account_id char(36), opportunity_id char(36),
    opportunity_name varchar(255), opportunity_amount varchar(50), campaign_id char(36), birthdate date, portal_name varchar(255), website varchar(255));
create table leads_cstm (id_c char(36) not null primary key, jjwg_maps_lng_c float, jjwg_maps_address_c varchar(255));
create table leads_audit (id char(36) not null primary key, parent_id char(36) not null, date_created DATETIME, field_name varchar(100));
create table email_addresses (id char(36) not null primary key, email_address varchar(255), email_address_caps varchar(255), invalid_email BOOL default FALSE,
    opt_out BOOL default FALSE, confirm_opt_in varchar(255), confirm_opt_in_date DATETIME, date_created DATETIME, date_modified DATETIME, deleted BOOL default FALSE);
create table email_addr_bean_rel (id char(36) not null primary key, email_address_id char(36) not null, bean_id char(36) not null, bean_module varchar(100),
    primary_address BOOL default FALSE, reply_to_address BOOL default FALSE, date_created DATETIME, date_modified DATETIME, deleted BOOL default FALSE);
create index idx_bean_id on email_addr_bean_rel (bean_id, bean_module);
insert into users (id, user_name, first_name, last_name, deleted) values ('u1', 'sarah', 'Sarah', 'Smith', FALSE);
insert into leads (id, date_entered, date_modified, deleted, assigned_user_id, first_name, last_name, do_not_call, phone_mobile, primary_address_city, lead_source, status) values
    ('l1', '2026-03-01 10:00:00', '2026-03-02 10:00:00', FALSE, 'u1', 'Ann', 'Bell', FALSE, '(555) 010-1010', 'Oakland', 'Web Site', 'New'),
    ('l2', '2026-03-01 11:00:00', '2026-03-02 11:00:00', FALSE, 'u1', 'Bo', 'Dyck', TRUE, null, null, 'Cold Call', 'Assigned'),
    ('l3', '2026-03-01 12:00:00', '2026-03-02 12:00:00', TRUE, 'u1', 'Dora', 'Gone', FALSE, null, null, 'Web Site', 'Dead'),
    ('l4', '2026-03-01 12:00:00', '2026-03-02 12:00:00', FALSE, 'u1', 'Emil', 'Without', FALSE, null, null, 'Web Site', 'New');
insert into email_addresses (id, email_address, email_address_caps, opt_out, date_modified, deleted) values
    ('e1', 'ann@example.net', 'ANN@EXAMPLE.NET', FALSE, '2026-03-02 10:00:00', FALSE), ('e2', 'bo@example.net', 'BO@EXAMPLE.NET', TRUE, '2026-03-09 10:00:00', FALSE),
    ('e3', 'dora@example.net', 'DORA@EXAMPLE.NET', FALSE, '2026-03-02 10:00:00', FALSE), ('e4', 'sarah@example.com', 'SARAH@EXAMPLE.COM', FALSE, '2026-01-01 00:00:00', FALSE),
    ('e5', 'ann.other@example.net', 'X', FALSE, '2026-03-02 10:00:00', FALSE);
insert into email_addr_bean_rel (id, email_address_id, bean_id, bean_module, primary_address, date_modified, deleted) values
    ('r1', 'e1', 'l1', 'Leads', TRUE, '2026-03-02 10:00:00', FALSE), ('r2', 'e2', 'l2', 'Leads', TRUE, '2026-03-02 10:00:00', FALSE),
    ('r3', 'e3', 'l3', 'Leads', TRUE, '2026-03-02 10:00:00', FALSE), ('r4', 'e4', 'u1', 'Users', TRUE, '2026-01-01 00:00:00', FALSE),
    ('r5', 'e5', 'l1', 'Leads', FALSE, '2026-03-02 10:00:00', FALSE);
"#;
    match engine {
        Engine::Sqlite => text.to_owned(),
        Engine::Postgres => text.replace("DATETIME", "timestamp").replace("BOOL ", "boolean "),
    }
}

/// Twenty: camelCase columns in a schema for each workspace. PostgreSQL only.
pub const TWENTY: &str = r#"
create schema workspace_1wgvd1injqtife6y4rvfbu3h5;
set search_path = workspace_1wgvd1injqtife6y4rvfbu3h5;
create type "person_createdBySource_enum" as enum ('EMAIL', 'CALENDAR', 'WORKFLOW', 'API', 'IMPORT', 'MANUAL', 'SYSTEM', 'WEBHOOK');
create table "workspaceMember" (id uuid primary key, "createdAt" timestamptz not null default now(), "updatedAt" timestamptz not null default now(), "deletedAt" timestamptz,
    position double precision, "nameFirstName" text, "nameLastName" text, "colorScheme" text, locale text, "avatarUrl" text, "userEmail" text, "userId" uuid not null);
create table company (id uuid primary key, "createdAt" timestamptz not null default now(), "updatedAt" timestamptz not null default now(), "deletedAt" timestamptz, name text,
    "domainNamePrimaryLinkUrl" text, employees double precision, "addressAddressCity" text, "idealCustomerProfile" boolean not null default false,
    position double precision, "accountOwnerId" uuid references "workspaceMember");
create table person (id uuid primary key, "createdAt" timestamptz not null default now(), "updatedAt" timestamptz not null default now(), "deletedAt" timestamptz,
    "nameFirstName" text, "nameLastName" text, "emailsPrimaryEmail" text, "emailsAdditionalEmails" jsonb, "linkedinLinkPrimaryLinkUrl" text, "jobTitle" text,
    "phonesPrimaryPhoneNumber" text, "phonesPrimaryPhoneCountryCode" text, "phonesPrimaryPhoneCallingCode" text, "phonesAdditionalPhones" jsonb,
    city text, "avatarUrl" text, position double precision, "createdBySource" "person_createdBySource_enum" not null default 'MANUAL',
    "createdByWorkspaceMemberId" uuid, "createdByName" text, "searchVector" tsvector, "companyId" uuid references company);
create unique index on person ("emailsPrimaryEmail") where "deletedAt" is null;
insert into "workspaceMember" (id, "nameFirstName", "nameLastName", "userEmail", "userId") values
    ('20202020-0687-4c41-b707-ed1bfca972a7', 'Tim', 'Apple', 'tim@example.com', '20202020-9e3b-46d4-a556-88b9ddc2b034');
insert into company (id, name, "accountOwnerId") values ('20202020-a305-41e7-8c72-ba44072a4c58', 'Linkedin', '20202020-0687-4c41-b707-ed1bfca972a7');
insert into person (id, "nameFirstName", "nameLastName", "emailsPrimaryEmail", "phonesPrimaryPhoneNumber", "phonesPrimaryPhoneCallingCode", city, "deletedAt", "companyId") values
    ('20202020-1c0e-494c-a1b6-85b1c6fefaa5', 'Christoph', 'Calisto', 'christoph@example.net', '789012345', '+33', 'Seattle', null, '20202020-a305-41e7-8c72-ba44072a4c58'),
    ('20202020-ac73-4797-824e-87a1f5aea9e0', 'Sylvie', 'Palmer', 'sylvie@example.net', '780123456', '+33', 'Los Angeles', null, '20202020-a305-41e7-8c72-ba44072a4c58'),
    ('20202020-f517-42fd-80ae-14173b3b70ae', 'Gone', 'Person', 'gone@example.net', '', '', 'Paris', now(), '20202020-a305-41e7-8c72-ba44072a4c58');
"#;

/// A hand-made table with declared references.
pub const PLAIN: &str = r#"
create table users (id integer primary key, name varchar(100), email varchar(100));
create table sources (id integer primary key, name varchar(100));
create table leads (id integer primary key, fname varchar(50), lname varchar(50), email varchar(100), phone varchar(30), mobile varchar(30), city varchar(50),
    state varchar(20), zip varchar(10), status varchar(20), source_id integer references sources (id), owner_id integer references users (id), do_not_email integer,
    newsletter_ok integer, notes text, created_at timestamp, updated_at timestamp not null, deleted_at timestamp);
insert into users values (1, 'Rae Rep', 'rae@example.com');
insert into sources values (1, 'Website'), (2, 'Fair');
insert into leads values
    (1, 'Ann', 'Bell', 'ann@example.net', '555-010-1010', null, 'Oakland', 'CA', '94016', 'New', 1, 1, 0, 1, 'secret note', '2026-03-01 10:00:00', '2026-03-02 10:00:00', null),
    (2, 'Bo', 'Dyck', 'bo@example.net', null, '555-010-1011', 'Reno', 'NV', '89501', 'Sold', 2, 1, 1, 0, null, '2026-03-01 11:00:00', '2026-03-02 11:00:00', null),
    (3, 'Cy', 'Ask', 'no address', null, null, null, null, null, 'New', 1, 1, 0, 1, null, '2026-03-01 11:00:00', '2026-03-02 11:00:00', null),
    (4, 'Dora', 'Gone', 'dora@example.net', null, null, null, null, null, 'New', 1, 1, 0, 1, null, '2026-03-01 11:00:00', '2026-03-02 11:00:00', '2026-03-03 00:00:00');
"#;

/// The same in German, French and Spanish: one table each, with all columns.
pub const GERMAN: &str = r#"
create table interessenten (kundennummer integer primary key, vorname varchar(50), nachname varchar(50), "e_mail_adresse" varchar(100), telefon varchar(30), handynummer varchar(30),
    strasse varchar(100), plz varchar(10), ort varchar(50), quelle varchar(50), status varchar(20), betreuer varchar(50), keine_werbung varchar(5), werbeeinwilligung varchar(5),
    angelegt_am timestamp, geaendert_am timestamp);
insert into interessenten values
    (1, 'Jörg', 'Groß', 'joerg@example.net', '030 1234567', null, 'Am Weg 1', '10115', 'Berlin', 'Messe', 'neu', 'Rita Rat', 'nein', 'ja', '2026-03-01 10:00:00', '2026-03-02 10:00:00'),
    (2, 'Ute', 'Klein', 'ute@example.net', null, '0170 1234567', 'Am Weg 2', '10115', 'Berlin', 'Web', 'neu', 'Rita Rat', 'ja', 'nein', '2026-03-01 10:00:00', '2026-03-02 10:00:00');
"#;

pub const FRENCH: &str = r#"
create table prospects (id integer primary key, prenom varchar(50), nom varchar(50), courriel varchar(100), telephone varchar(30), portable varchar(30), rue varchar(100),
    code_postal varchar(10), ville varchar(50), provenance varchar(50), statut varchar(20), commercial varchar(50), desabonne integer, date_creation timestamp, modifie_le timestamp);
insert into prospects values
    (1, 'Zoé', 'Petit', 'zoe@example.net', '01 23 45 67 89', '06 12 34 56 78', '1 rue X', '75001', 'Paris', 'Salon', 'nouveau', 'Luc Vend', 0, '2026-03-01 10:00:00', '2026-03-02 10:00:00'),
    (2, 'Max', 'Grand', 'max@example.net', null, null, null, null, null, 'Web', 'nouveau', 'Luc Vend', 1, '2026-03-01 10:00:00', '2026-03-02 10:00:00');
"#;

pub const SPANISH: &str = r#"
create table clientes (id integer primary key, nombre varchar(50), apellidos varchar(50), correo_electronico varchar(100), telefono varchar(30), movil varchar(30), direccion varchar(100),
    codigo_postal varchar(10), ciudad varchar(50), origen varchar(50), estado varchar(20), vendedor varchar(50), no_contactar integer, fecha_creacion timestamp, fecha_modificacion timestamp);
insert into clientes values
    (1, 'Inés', 'Gil Ruiz', 'ines@example.net', '912 345 678', '612 345 678', 'Calle 1', '28001', 'Madrid', 'Feria', 'nuevo', 'Eva Vega', 0, '2026-03-01 10:00:00', '2026-03-02 10:00:00'),
    (2, 'Blas', 'Paz', 'blas@example.net', null, null, null, null, null, 'Web', 'nuevo', 'Eva Vega', 1, '2026-03-01 10:00:00', '2026-03-02 10:00:00');
"#;
