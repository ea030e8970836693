//! Invented people, cars and notes that make the sample CRM believable. Pure.
//!
//! No real person may ever be reached: addresses are at example.com, .org and .net only, and telephone numbers are from the
//! 555-01xx range, which is reserved for fiction.

use rand::RngExt;
use rand::rngs::StdRng;

/// Status codes as the CRM stores them.
pub const STATUSES: [&str; 4] = ["New", "Working", "Sold", "Lost"];

/// Salespeople: name and address.
pub const OWNERS: [(&str, &str); 6] = [
    ("Dana Whitfield", "dana.whitfield@dealer.example.com"),
    ("Marcus Oyelaran", "marcus.oyelaran@dealer.example.com"),
    ("Priya Raman", "priya.raman@dealer.example.com"),
    ("Tom Castellano", "tom.castellano@dealer.example.com"),
    ("Ingrid Solberg", "ingrid.solberg@dealer.example.com"),
    ("Luis Ferreira", "luis.ferreira@dealer.example.com"),
];

const FIRST_NAMES: [&str; 40] = [
    "Sally", "James", "Amara", "Wei", "Olivia", "Mateo", "Hannah", "Dmitri", "Chloe", "Samuel", "Leila", "Noah",
    "Grace", "Andre", "Yuki", "Peter", "Fatima", "Colin", "Renee", "Victor", "Naomi", "Ethan", "Carmen", "Oscar",
    "Judith", "Ravi", "Heather", "Malik", "Sofia", "Graham", "Anneke", "Tyrone", "Paula", "Kenji", "Bridget", "Omar",
    "Denise", "Lars", "Miriam", "Trevor",
];

const LAST_NAMES: [&str; 40] = [
    "Abbott",
    "Okafor",
    "Lindqvist",
    "Moreno",
    "Chen",
    "Harper",
    "Novak",
    "Delgado",
    "Fischer",
    "Kowalski",
    "Bennett",
    "Ibrahim",
    "Sato",
    "Murphy",
    "Castro",
    "Whitaker",
    "Jensen",
    "Pereira",
    "Holloway",
    "Nakamura",
    "Reyes",
    "Sullivan",
    "Vargas",
    "Engel",
    "Patel",
    "Dubois",
    "Hassan",
    "Gallagher",
    "Romano",
    "Thornton",
    "Ortiz",
    "Becker",
    "Mwangi",
    "Larsen",
    "Costa",
    "Underwood",
    "Petrov",
    "Blackwood",
    "Alvarez",
    "Yamada",
];

const CARS: [(&str, &str); 12] = [
    ("Toyota", "RAV4"),
    ("Toyota", "Camry"),
    ("Honda", "CR-V"),
    ("Honda", "Civic"),
    ("Ford", "F-150"),
    ("Ford", "Escape"),
    ("Subaru", "Outback"),
    ("Hyundai", "Tucson"),
    ("Kia", "Sportage"),
    ("Chevrolet", "Equinox"),
    ("Mazda", "CX-5"),
    ("Jeep", "Wrangler"),
];

const SOURCES: [&str; 7] = ["Website", "Cars.com", "AutoTrader", "Walk-in", "Phone", "Referral", "Spring Sales Event"];
const GROUPS: [&str; 3] = ["Front Range Auto", "Lakeside Motors", "Summit Dealers"];
const NOTES: [&str; 5] = [
    "Asked for a test drive at the weekend",
    "Wants to trade in the old car",
    "Comparing with another dealer",
    "Prefers a call after 5 pm",
    "Looking for financing over 60 months",
];

/// One row of the CRM's table, without key and times.
pub struct DemoPerson {
    pub first_name: Option<String>,
    pub last_name: String,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub mobile: Option<String>,
    pub source: &'static str,
    /// 1 to 4, see [`STATUSES`].
    pub status: i64,
    pub owner: Option<(&'static str, &'static str)>,
    pub do_not_contact: &'static str,
    pub vehicle_year: i64,
    pub make: &'static str,
    pub model: &'static str,
    pub group_name: &'static str,
    pub notes: Option<&'static str>,
}

/// A believable person without faults; `number` makes addresses unique.
pub fn person(rng: &mut StdRng, number: i64) -> DemoPerson {
    let (first_name, last_name) = (pick(rng, &FIRST_NAMES), pick(rng, &LAST_NAMES));
    let domain = pick(rng, &["example.com", "example.org", "example.net"]);
    let email = format!("{}.{}{number}@{domain}", first_name.to_lowercase(), last_name.to_lowercase());
    let (make, model) = pick(rng, &CARS);
    DemoPerson {
        first_name: Some(first_name.to_owned()),
        last_name: last_name.to_owned(),
        email: Some(email),
        phone: rng.random_bool(0.6).then(|| telephone(rng)),
        mobile: rng.random_bool(0.8).then(|| telephone(rng)),
        source: pick(rng, &SOURCES),
        // Most leads of a living CRM are open.
        status: pick(rng, &[1, 1, 1, 2, 2, 2, 3, 4]),
        owner: Some(pick(rng, &OWNERS)),
        do_not_contact: if rng.random_bool(0.04) { "Y" } else { "N" },
        vehicle_year: rng.random_range(2015..=2026),
        make,
        model,
        group_name: pick(rng, &GROUPS),
        notes: rng.random_bool(0.5).then(|| pick(rng, &NOTES)),
    }
}

pub fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

fn telephone(rng: &mut StdRng) -> String {
    let area = pick(rng, &["303", "720", "970", "719"]);
    format!("({area}) 555-01{:02}", rng.random_range(0..100))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn nobody_real_can_be_reached() {
        let mut rng = StdRng::seed_from_u64(1);
        for number in 1..=2_000 {
            let person = person(&mut rng, number);
            let email = person.email.unwrap();
            assert!(["@example.com", "@example.org", "@example.net"].iter().any(|end| email.ends_with(end)), "{email}");
            for telephone in person.phone.iter().chain(&person.mobile) {
                assert!(telephone.contains(" 555-01"), "{telephone}");
            }
        }
        assert!(OWNERS.iter().all(|(_, email)| email.ends_with(".example.com")));
    }
}
