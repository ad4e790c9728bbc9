//! What this server gives out and knows again: a ticket, for one stream, and a session, for a browser. Both are a few bytes and their
//! HMAC, so that nothing is stored for them, and nobody else can make one.
//!
//! On the wire: base64url of the bytes, a dot, base64url of the HMAC-SHA256. The bytes begin with their kind, so that neither can be
//! taken for the other.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

use crate::id::StreamId;

const TICKET: u8 = 1;
const SESSION: u8 = 2;
/// Longer than any that was given out; longer ones are not even looked at.
const LONGEST: usize = 1024;

/// What a ticket is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The stream's events and its state.
    Read = 0,
    /// And stopping it.
    Cancel = 1,
}

/// One stream, for who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which.
    pub stream: StreamId,
    /// What for.
    pub scope: Scope,
    /// Until then, in Unix seconds.
    pub expires: u64,
    /// Whose stream it is.
    pub owner: String,
}

/// A browser that has shown a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Until then, in Unix seconds.
    pub expires: u64,
    /// Whose key it was.
    pub owner: String,
}

/// What a token turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged<T> {
    /// Ours, and good.
    Good(T),
    /// Ours, and over.
    Expired(T),
    /// Not ours.
    Forged,
}

/// Signs, and knows again what it signed.
#[derive(Debug)]
pub struct Signer(hmac::Key);

impl Signer {
    /// With this secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The ticket as it is given out.
    #[must_use]
    pub fn ticket(&self, ticket: &Ticket) -> String {
        let Ticket { stream, scope, expires, owner } = ticket;
        self.sign(&[&[TICKET, *scope as u8], &expires.to_be_bytes()[..], &stream.to_bytes(), owner.as_bytes()].concat())
    }

    /// The session as it is given out.
    #[must_use]
    pub fn session(&self, session: &Session) -> String {
        self.sign(&[&[SESSION], &session.expires.to_be_bytes()[..], session.owner.as_bytes()].concat())
    }

    /// Looks at what is shown as a ticket.
    #[must_use]
    pub fn judge_ticket(&self, token: &str, now: u64) -> Judged<Ticket> {
        let read = |bytes: &[u8]| {
            let (&[TICKET, scope], rest) = bytes.split_first_chunk::<2>()? else { return None };
            let (expires, rest) = rest.split_first_chunk::<8>()?;
            let (stream, owner) = rest.split_first_chunk::<16>()?;
            let scope = match scope {
                0 => Scope::Read,
                1 => Scope::Cancel,
                _ => return None,
            };
            let (expires, stream) = (u64::from_be_bytes(*expires), StreamId::from_bytes(*stream));
            Some(Ticket { stream, scope, expires, owner: String::from_utf8(owner.to_vec()).ok()? })
        };
        judged(self.verified(token).as_deref().and_then(read), now, |ticket| ticket.expires)
    }

    /// Looks at what is shown as a session.
    #[must_use]
    pub fn judge_session(&self, token: &str, now: u64) -> Judged<Session> {
        let read = |bytes: &[u8]| {
            let (&[SESSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
            let (expires, owner) = rest.split_first_chunk::<8>()?;
            Some(Session { expires: u64::from_be_bytes(*expires), owner: String::from_utf8(owner.to_vec()).ok()? })
        };
        judged(self.verified(token).as_deref().and_then(read), now, |session| session.expires)
    }

    fn sign(&self, bytes: &[u8]) -> String {
        let mac = hmac::sign(&self.0, bytes);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(bytes), URL_SAFE_NO_PAD.encode(mac))
    }

    /// The signed bytes, if they are.
    fn verified(&self, token: &str) -> Option<Vec<u8>> {
        let (bytes, mac) = token.split_once('.').filter(|_| token.len() <= LONGEST)?;
        let [bytes, mac] = [bytes, mac].map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let bytes = bytes?;
        hmac::verify(&self.0, &bytes, &mac?).ok()?;
        Some(bytes)
    }
}

fn judged<T>(read: Option<T>, now: u64, expires: impl Fn(&T) -> u64) -> Judged<T> {
    match read {
        None => Judged::Forged,
        Some(it) if expires(&it) <= now => Judged::Expired(it),
        Some(it) => Judged::Good(it),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket { stream: StreamId::new(), scope: Scope::Read, expires: 1000, owner: "web".into() }
    }

    #[test]
    fn a_ticket_is_known_again_until_its_time() {
        let signer = Signer::new(b"a secret");
        for ticket in [ticket(), Ticket { scope: Scope::Cancel, owner: String::new(), ..ticket() }] {
            let token = signer.ticket(&ticket);
            assert_eq!(signer.judge_ticket(&token, 999), Judged::Good(ticket.clone()));
            assert_eq!(signer.judge_ticket(&token, 1000), Judged::Expired(ticket));
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "it fits a URL");
        }
    }

    #[test]
    fn whatever_is_changed_is_forged() {
        let signer = Signer::new(b"a secret");
        let token = signer.ticket(&ticket());
        assert_eq!(Signer::new(b"another").judge_ticket(&token, 0), Judged::Forged);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            // The last character of a part has bits that say nothing; a strict decoder refuses those that are not zero.
            assert_eq!(signer.judge_ticket(&changed, 0), Judged::Forged, "{at}");
        }
        for cut in 0..token.len() {
            assert_eq!(signer.judge_ticket(&token[..cut], 0), Judged::Forged);
        }
        assert_eq!(signer.judge_ticket(&format!("{token}."), 0), Judged::Forged);
        assert_eq!(signer.judge_ticket(&"A".repeat(1 << 20), 0), Judged::Forged);
    }

    #[test]
    fn a_session_is_no_ticket_and_a_ticket_no_session() {
        let signer = Signer::new(b"a secret");
        // With an owner that would make the same bytes but for the kind.
        let session = Session { expires: 1000, owner: "0123456789abcdef-web".into() };
        let token = signer.session(&session);
        assert_eq!(signer.judge_session(&token, 0), Judged::Good(session.clone()));
        assert_eq!(signer.judge_session(&token, 1000), Judged::Expired(session));
        assert_eq!(signer.judge_ticket(&token, 0), Judged::Forged);
        assert_eq!(signer.judge_session(&signer.ticket(&ticket()), 0), Judged::Forged);
    }
}
