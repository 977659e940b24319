//! The items of a message: read by a strict parser at full speed, or by a lenient one if that refuses.
use std::borrow::Cow;

use super::Mapping;
use super::capture::Capture;
use crate::lenient_json::parse::Damage;
use crate::lenient_json::repair::{Repaired, repair};

/// Why a body has no items at all.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not JSON.
    #[error("the body is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The body is too broken to have one.
    #[error("the body has no item that can be read: {0}")]
    Damaged(String),
    /// The array of items is missing.
    #[error("no array at {0}: the mapping's items points at it")]
    NoItems(String),
}

impl Mapping {
    /// Reads a message and calls `each` with every item of it. Nearly valid JSON, and several documents one behind
    /// the other, are read too; a damaged item is marked, and affects no other. An error: there is no item at all.
    pub fn items(
        &self,
        message: &str,
        each: &mut dyn FnMut(&Capture<'_>),
    ) -> Result<(), MessageError> {
        let mut read = 0;
        let error = match self.strict(message, self.keep_raw, &mut |item| {
            read += 1;
            each(item);
        }) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let items = self.items.clone().unwrap_or_default();
                return Err(MessageError::NoItems(items));
            }
            Err(error) => error,
        };
        match repair(message) {
            Some(repaired) => self.lenient(&repaired, read, each),
            None => Err(error.into()),
        }
    }

    /// The pointer to the items of a document; `None`: the document is one item.
    fn pointer(&self, document: &str) -> Option<&str> {
        match &self.items {
            Some(pointer) => Some(pointer),
            None if document.trim_start().starts_with('[') => Some(""),
            None => None,
        }
    }

    /// Reads one document of strict JSON; false: it has no array of items.
    fn strict<'m>(
        &self,
        document: &'m str,
        keep_raw: bool,
        each: &mut dyn FnMut(&mut Capture<'m>),
    ) -> Result<bool, serde_json::Error> {
        let Some(pointer) = self.pointer(document) else {
            let mut item = self.plan.capture();
            self.plan.item(document, &mut item)?;
            each(&mut item);
            return Ok(true);
        };
        self.plan.items(document, pointer, keep_raw, each)
    }

    /// Reads the rest at which a strict parser stopped, behind the items that it has read.
    fn lenient(
        &self,
        repaired: &Repaired,
        read: usize,
        each: &mut dyn FnMut(&Capture<'_>),
    ) -> Result<(), MessageError> {
        let mut seen = 0;
        let mut reasons = Vec::new();
        for document in &repaired.documents {
            let within = &document.repaired;
            let text = &repaired.text[within.clone()];
            let mut told = 0;
            let mut take = |item: &mut Capture<'_>| {
                let raw = item.raw.as_deref().unwrap_or(text);
                let begin = within.start + (raw.as_ptr().addr() - text.as_ptr().addr());
                let bytes = begin..begin + raw.len();
                told += repaired.places(&bytes);
                item.damage = repaired.damage(&bytes).map(|damage| damage.to_string());
                if !self.keep_raw {
                    item.raw = None;
                }
                seen += 1;
                if seen > read {
                    each(item);
                }
            };
            let found = self.strict(text, true, &mut |item| {
                match &item.raw {
                    // An item whose bracket was taken for that of a list.
                    Some(Cow::Borrowed(raw)) if raw.starts_with('[') => {
                        let within = self.plan.items(raw, "", true, &mut |item| take(item));
                        if within.is_err() {
                            take(item);
                        }
                    }
                    _ => take(item),
                }
            });
            match found {
                Ok(true) => {}
                Ok(false) => {
                    let items = self.items.clone().unwrap_or_default();
                    reasons.push(MessageError::NoItems(items).to_string());
                }
                Err(error) => reasons.push(MessageError::Json(error).to_string()),
            }
            // The lost part may have contained more items.
            if repaired.places(within) > told
                && let Some(damage) = repaired.damage(within)
            {
                reasons.push(damage.to_string());
            }
        }
        if repaired.stray {
            reasons.push(Damage::Stray.to_string());
        }
        let Some(reason) = reasons.into_iter().next() else {
            return Ok(());
        };
        if seen == 0 {
            return Err(MessageError::Damaged(reason));
        }
        let mut lost = self.plan.capture();
        lost.damage = Some(reason);
        each(&lost);
        Ok(())
    }

    /// Calls `each` with every object of a line, usually one. A line that a strict parser refuses is repaired: what is
    /// damaged is marked, and affects no other object. An error: there is none at all.
    pub fn line(
        &self,
        line: &str,
        each: &mut dyn FnMut(&Capture<'_>),
    ) -> Result<(), serde_json::Error> {
        let mut item = self.plan.capture();
        let Err(error) = self.plan.item(line, &mut item) else {
            each(&item);
            return Ok(());
        };
        let Some(repaired) = repair(line) else {
            return Err(error);
        };
        let is_one = repaired.documents.len() == 1;
        for document in &repaired.documents {
            let mut item = self.plan.capture();
            let text = &repaired.text[document.repaired.clone()];
            let read = self.plan.item(text, &mut item);
            let stray = (is_one && repaired.stray).then_some(Damage::Stray);
            let damage = repaired.damage(&document.repaired).or(stray);
            item.damage = match read {
                Ok(()) => damage.map(|damage| damage.to_string()),
                Err(error) => Some(error.to_string()),
            };
            each(&item);
        }
        if !is_one && repaired.stray {
            let mut lost = self.plan.capture();
            lost.damage = Some(Damage::Stray.to_string());
            each(&lost);
        }
        Ok(())
    }
}
