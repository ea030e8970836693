//! Why a value of the CRM cannot be sent.

/// The longest value that is sent, in characters. Conversica publishes no limit; no name, address or source is this long.
pub const MAX_CHARS: usize = 2000;

/// Marks a cell with a JSON object or array, which no key of a lead can hold. Before the text of a JSON scalar it marks the
/// scalar; see [`crate::rules::json::scalar`].
pub const NOT_SCALAR: &str = "\u{1}json";

/// Marks a cell of a floating-point column that holds no number: `NaN` or infinity.
pub const NOT_A_NUMBER: &str = "\u{1}number";

/// Replaces a replacement character that the database itself holds: its letter was lost earlier. A replacement character left in
/// a cell means bytes that are not UTF-8.
pub const LOST_CHARACTER: &str = "\u{ffff}";

/// Marks a cell with JSON that holds no text, such as half a surrogate pair, or a number of excessive size.
pub const UNREADABLE: &str = "\u{1}json?";
