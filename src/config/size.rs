//! Sizes as people write them: `512KiB`, `1MiB`, `65536B`. Pure.

/// The units with their length in bytes. Both families, because people use both correctly.
const UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1_024),
    ("MB", 1_000_000),
    ("MiB", 1_048_576),
    ("GiB", 1_073_741_824),
];

/// Reads a size in bytes; the error says what is expected and does not repeat the text.
pub fn parse(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str =
        "write a whole number and a unit (B, kB, KiB, MB, MiB, GiB) without a blank, like \"512KiB\" or \"1MiB\"";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(EXPECTED)?;
    number.checked_mul(*bytes).ok_or("it is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_number_and_a_unit() {
        assert_eq!(parse("1MiB"), Ok(1_048_576));
        assert_eq!(parse("512KiB"), Ok(524_288));
        assert_eq!(parse("10B"), Ok(10));
        for text in ["", "1", "MiB", "1 MiB", "1.5MiB", "-1MiB", "1mib", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
