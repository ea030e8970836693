//! Reads the scalar inside a JSON text. PostgreSQL would fail here: it accepts values into a `json` column that it cannot extract
//! again, and one such row would stop the statement that reads all rows. Pure.

use crate::rules::value_fault::{MAX_CHARS, NOT_SCALAR, UNREADABLE};

/// The text of a cell. After [`NOT_SCALAR`] the cell has the JSON text of a scalar.
pub fn scalar(cell: String) -> String {
    let Some(json) = cell.strip_prefix(NOT_SCALAR).map(str::trim).filter(|json| !json.is_empty()) else { return cell };
    let scalar = match json {
        "true" | "false" => Some(json.to_owned()),
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        number => without_exponent(number),
    };
    scalar.unwrap_or_else(|| UNREADABLE.to_owned())
}

/// The number as `jsonb` writes it: all its digits, and no exponent.
fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || exponent.unsigned_abs() > MAX_CHARS as u64 {
        return None;
    }
    let mut point = i64::try_from(whole.len()).ok()? + exponent;
    while point < 1 {
        digits.insert(0, '0');
        point += 1;
    }
    let point = usize::try_from(point).ok()?;
    while digits.len() < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let sign = if digits.bytes().all(|b| b == b'0') { "" } else { sign };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> String {
        scalar(format!("{NOT_SCALAR}{json}"))
    }

    #[test]
    fn a_scalar_is_taken_out_of_its_json() {
        for (json, text) in [
            (r#""a\"b\u00e9""#, "a\"bé"),
            (" \"a\"\n", "a"),
            ("true", "true"),
            ("42.50", "42.50"),
            ("-7", "-7"),
            ("4.250e1", "42.50"),
            ("1e2", "100"),
            ("-1.5E-3", "-0.0015"),
            ("-0", "0"),
            ("0.10", "0.10"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""a\u0000b""#, "a\u{0}b"),
        ] {
            assert_eq!(read(json), text, "{json}");
        }
    }

    #[test]
    fn what_holds_no_text_is_marked() {
        for json in [r#""\ud83d""#, "1e999999", "1e-999999", "-", "1e99999999999999999999"] {
            assert_eq!(read(json), UNREADABLE, "{json}");
        }
        assert_eq!(scalar(NOT_SCALAR.to_owned()), NOT_SCALAR, "an object");
        assert_eq!(scalar("1e2".to_owned()), "1e2", "no JSON");
    }

    proptest! {
        #[test]
        fn no_json_makes_the_reader_panic(json in "\\PC{0,20}|-?[0-9.]{0,9}[eE]?[+-]?[0-9]{0,6}") {
            let _ = read(&json);
        }
    }
}
