//! Signatures as [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md) 1.0
//! has them, in its symmetric form: HMAC-SHA256 over the message's id, the time of the try and the body, joined by dots.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use crate::client::Secret;

/// How many bytes a secret has.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs with one secret.
#[derive(Debug)]
pub(super) struct Signer(hmac::Key);

impl Signer {
    /// With this secret, as both sides have it: `whsec_` and base64.
    ///
    /// # Errors
    /// What is wrong with it, and how one is made.
    pub(super) fn new(secret: &Secret) -> Result<Self, &'static str> {
        let Some(encoded) = secret.expose().strip_prefix("whsec_") else {
            return Err("does not begin with `whsec_`; `echo whsec_$(openssl rand -base64 32)` makes one");
        };
        let Ok(bytes) = STANDARD.decode(encoded) else {
            return Err("is not base64 behind `whsec_`; `echo whsec_$(openssl rand -base64 32)` makes one");
        };
        if !LENGTH.contains(&bytes.len()) {
            return Err("must be 24 to 64 bytes behind `whsec_`; `echo whsec_$(openssl rand -base64 32)` makes one");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The headers of one try. `id` is the same for every try, `at` is the Unix time of this one, in seconds.
    pub(super) fn headers(&self, id: &str, at: u64, body: &[u8]) -> [(String, String); 3] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{at}.").as_bytes());
        context.update(body);
        let signature = format!("v1,{}", STANDARD.encode(context.sign()));
        [("webhook-id", id.to_owned()), ("webhook-timestamp", at.to_string()), ("webhook-signature", signature)]
            .map(|(name, value)| (name.to_owned(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let signer = Signer::new(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).expect("a secret");
        let headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let expected = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_secret_has_a_form_and_a_length() {
        let whsec = |n: usize| format!("whsec_{}", STANDARD.encode(vec![7; n]));
        for (secret, wrong) in [
            (whsec(23), Some("24 to 64")),
            (whsec(24), None),
            (whsec(64), None),
            (whsec(65), Some("24 to 64")),
            (whsec(32).replace("whsec_", ""), Some("`whsec_`")),
            ("whsec_no!".to_owned(), Some("base64")),
            (String::new(), Some("`whsec_`")),
        ] {
            let made = Signer::new(&Secret::new(&secret));
            assert_eq!(made.is_err(), wrong.is_some(), "{secret}");
            assert!(made.err().is_none_or(|what| what.contains(wrong.expect("it is")) && what.contains("openssl")));
        }
    }
}
