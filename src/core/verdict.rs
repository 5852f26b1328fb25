//! What becomes of the properties of a bundle.

use std::fmt;

/// What a backend does with one property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As config.json says, or nothing where the value asks for nothing.
    Applied,
    /// Honoured only nearly, as told beside it.
    Approximated,
    /// Without effect: unknown to runtime-spec, which demands that it be ignored, or without a meaning on this host.
    Ignored,
    /// For another program, which reads config.json itself and judges by its own rules.
    HandedOn,
    /// `create` fails because of it.
    Refused,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Applied => "applied",
            Verdict::Approximated => "approximated",
            Verdict::Ignored => "ignored",
            Verdict::HandedOn => "handed on",
            Verdict::Refused => "refused",
        }
    }
}

/// What a draft says of a property, or of a part of one, that it does not honour to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// JSON pointer into config.json without its first slash.
    pub pointer: String,
    /// How it is honoured nearly, or why not at all.
    pub text: String,
    /// [`Verdict::Approximated`] or [`Verdict::Ignored`].
    pub verdict: Verdict,
}

impl Remark {
    pub fn nearly(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Remark { pointer: pointer.into(), text: text.into(), verdict: Verdict::Approximated }
    }

    pub fn without_effect(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Remark { pointer: pointer.into(), text: text.into(), verdict: Verdict::Ignored }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.pointer)
    }
}
