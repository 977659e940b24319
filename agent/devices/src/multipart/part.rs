//! A part that is being read.
use super::shape::Shape;

/// What is known of a part from its head.
#[derive(Debug, Default)]
pub struct Head {
    /// Of the head.
    pub bytes: usize,
    /// Of the body, as it says.
    pub length: Option<usize>,
    /// It says that it is one.
    pub picture: bool,
}

/// A body of text that comes in.
#[derive(Debug, Default)]
pub struct Body {
    /// As its head says.
    pub length: Option<usize>,
    /// The length was found to be wrong.
    liar: bool,
    shape: Shape,
    /// Where it ends by its grammar.
    grammar: Option<usize>,
    /// Up to here there is no delimiter.
    pub searched: usize,
}

impl Body {
    /// Nothing of it has come.
    pub fn new(length: Option<usize>) -> Self {
        Self {
            length,
            ..Self::default()
        }
    }

    /// Where it ends, as far as it has been seen and whatever follows.
    pub fn end(&mut self, seen: &[u8]) -> Option<usize> {
        self.grammar = self.grammar.or_else(|| self.shape.end(seen));
        let length = self.length.filter(|_| !self.liar);
        match (&self.shape, length, self.grammar) {
            // A text of the length that was told has the end of a line behind it, or goes on.
            (Shape::Unknown | Shape::Text { .. }, Some(length), _) => {
                self.liar = !matches!(seen.get(length)?, b'\r' | b'\n');
                (!self.liar).then_some(length)
            }
            (_, None, end) => end,
            (_, Some(length), Some(end)) if length <= end => Some(end),
            (_, Some(length), Some(end)) => {
                let more = seen.get(end..length)?;
                Some(if more.trim_ascii().is_empty() {
                    end
                } else {
                    length
                })
            }
            (_, Some(_), None) => None,
        }
    }
}
