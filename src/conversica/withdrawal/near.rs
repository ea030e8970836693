//! Compares words by their letters, so that a few damaged letters hide nothing. Pure.
//!
//! A comparison is expensive, and a post may have a hundred thousand words to compare. So each body has a limit. If it is
//! reached, the rest of the body is not compared, and the post counts as one that may say anything.

/// Comparisons for one body. A Lead Update needs a few dozen.
pub(super) const MAX_COMPARISONS: usize = 20_000;
/// No searched word is longer.
const MAX_LETTERS: usize = 24;

/// The comparisons that are left for one body.
#[derive(Debug, Clone)]
pub(super) struct WordComparer {
    left: usize,
    is_exhausted: bool,
}

impl Default for WordComparer {
    fn default() -> Self {
        Self { left: MAX_COMPARISONS, is_exhausted: false }
    }
}

impl WordComparer {
    /// Whether some words of the body were not compared.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Comparisons so far.
    #[cfg(test)]
    pub fn made(&self) -> usize {
        MAX_COMPARISONS - self.left
    }

    /// Whether the words differ in at most `most` letters. `other` is of ASCII letters.
    pub fn is_near(&mut self, word: &str, other: &str, most: usize) -> bool {
        if word == other {
            return true;
        }
        // Almost all words of a post end here.
        if most == 0 || word.len() > 4 * MAX_LETTERS || !has_letters_of(word, other, most) {
            return false;
        }
        if self.left == 0 {
            self.is_exhausted = true;
            return false;
        }
        self.left -= 1;
        distance(word, other).is_some_and(|distance| distance <= most)
    }
}

/// Whether the lengths differ by at most `most` letters, and so do the letters, in any order.
fn has_letters_of(word: &str, other: &str, most: usize) -> bool {
    let letters = if word.is_ascii() { word.len() } else { word.chars().count() };
    if letters.abs_diff(other.len()) > most {
        return false;
    }
    let mut counts = [0_i32; 32];
    // A letter beyond ASCII counts once, as one of its own.
    let mut strange = 0;
    for byte in word.bytes() {
        match byte {
            0..0x80 => counts[usize::from(byte % 32)] += 1,
            0x80..0xc0 => {}
            0xc0.. => strange += 1,
        }
    }
    other.bytes().for_each(|byte| counts[usize::from(byte % 32)] -= 1);
    let sum = |of: fn(i32) -> i32| counts.iter().map(|count| of(*count)).sum::<i32>() as usize;
    sum(|count| count.max(0)) + strange <= most && sum(|count| (-count).max(0)) <= most
}

/// How many letters have to be changed, added or removed; `None` if either word is too long.
fn distance(word: &str, other: &str) -> Option<usize> {
    let mut row = [0; MAX_LETTERS + 1];
    let other = other.as_bytes();
    row.get(other.len())?;
    for (place, cell) in row.iter_mut().enumerate() {
        *cell = place;
    }
    for (i, a) in word.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = before + usize::from(a != char::from(*b));
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    Some(row[other.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_near_that_differ_in_few_letters() {
        let is_near = |word: &str, most: usize| WordComparer::default().is_near(word, "donotemail", most);
        for word in ["donotemail", "donotemaim", "donotemai", "donotemailx", "d\u{f6}notemail", "xdonotemai"] {
            assert!(is_near(word, 2), "{word}");
        }
        assert!(!is_near("donotemaxxx", 2) && !is_near("donotmail", 0) && !is_near("", 2));
    }

    #[test]
    fn the_limit_is_told() {
        let mut near = WordComparer::default();
        for _ in 0..=MAX_COMPARISONS {
            assert!(!near.is_near("liametonod", "donotemail", 2));
        }
        assert!(near.is_exhausted());
        assert!(near.is_near("donotemail", "donotemail", 2), "the same letters need no comparison");
    }
}
