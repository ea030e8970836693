//! What `demo` shows the program with: a sample CRM that lives. It must never touch a database that it did not make.

pub mod crm;
