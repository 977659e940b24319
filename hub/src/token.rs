//! Tokens of the API: of programs, `llt.<id>.<secret>`, and of sessions, `lls.<id>.<secret>`.
use std::fmt;
use std::str::FromStr;

/// Of a token of a program.
const PROGRAM: &str = "llt";
/// Of a session.
const SESSION: &str = "lls";

/// A token of the API: of a program, or of a session.
#[derive(Clone)]
pub struct Token {
    kind: &'static str,
    /// Which.
    pub id: String,
    /// Proof of having been given it.
    pub secret: String,
}

impl Token {
    /// A new one for a program.
    pub fn program() -> Self {
        Self::new(PROGRAM)
    }

    /// A new one for a session.
    pub fn session() -> Self {
        Self::new(SESSION)
    }

    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            id: hex::encode(linli_shared::service::random::secret::<6>()),
            secret: hex::encode(linli_shared::service::random::secret::<24>()),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.kind, self.id, self.secret)
    }
}

impl FromStr for Token {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let (Some(kind), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let kind = [PROGRAM, SESSION].into_iter().find(|known| *known == kind);
        Ok(Self {
            kind: kind.ok_or(())?,
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

impl Token {
    /// It is of a session, not of a program.
    pub fn is_of_session(&self) -> bool {
        self.kind == SESSION
    }
}
