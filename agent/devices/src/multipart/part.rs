//! A part that is being read.
use super::shape::Shape;

/// The fields of a part's head.
#[derive(Debug, Default)]
pub struct Head {
    /// Bytes of the head.
    pub bytes: usize,
    /// Length of the body in the head.
    pub length: Option<usize>,
    /// The head declares a picture.
    pub picture: bool,
}

/// A body of text that is being read.
#[derive(Debug, Default)]
pub struct Body {
    /// Length in the head.
    pub length: Option<usize>,
    /// The length was found to be wrong.
    liar: bool,
    shape: Shape,
    /// End of the body by its grammar.
    grammar: Option<usize>,
    /// No delimiter before this position.
    pub searched: usize,
}

impl Body {
    /// A body without bytes yet.
    pub fn new(length: Option<usize>) -> Self {
        Self {
            length,
            ..Self::default()
        }
    }

    /// The end of the body, as far as it is visible in these bytes, whatever follows.
    pub fn end(&mut self, seen: &[u8]) -> Option<usize> {
        self.grammar = self.grammar.or_else(|| self.shape.end(seen));
        let length = self.length.filter(|_| !self.liar);
        match (&self.shape, length, self.grammar) {
            // Behind a text of the declared length is the end of a line, or the text continues.
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
