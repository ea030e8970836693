//! Why a value of the CRM cannot be sent.

/// The longest value that is sent, in characters. Conversica publishes no limit; no name, address or source is this long.
pub const MAX_CHARS: usize = 2000;

/// Stands in a cell for a JSON object or array, which no key of a lead can hold; before the text of a JSON scalar as it is
/// read, see [`crate::rules::json::scalar`].
pub const NOT_SCALAR: &str = "\u{1}json";

/// Stands in a cell for a number of a floating-point column that is none: `NaN` or infinity.
pub const NOT_A_NUMBER: &str = "\u{1}number";

/// Stands in a cell for a replacement character that the database itself holds: some letter was lost before it got there. A
/// replacement character in a cell stands for bytes that are no UTF-8.
pub const LOST_CHARACTER: &str = "\u{ffff}";

/// Stands in a cell for JSON that holds no text, such as half a surrogate pair, or a number beyond all measure.
pub const UNREADABLE: &str = "\u{1}json?";
