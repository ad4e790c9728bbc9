//! A key that tokens are checked with, and the check, which ring does: it is here anyway, for TLS.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{self, ErrorKind},
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
    signature::{Error, Verifier},
};
use ring::{hmac, signature};

/// Shorter than that a secret can be guessed (RFC 7518, 3.2: as long as the hash).
const SHORTEST: usize = 32;

/// A key, and the one algorithm that it is for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    decoding: DecodingKey,
    algorithm: Algorithm,
}

impl Key {
    fn new(decoding: DecodingKey, algorithm: Algorithm) -> Self {
        // Whoever was first has installed the same.
        let _ = PROVIDER.install_default();
        Self { decoding, algorithm }
    }

    /// HS256.
    pub(super) fn secret(secret: &str) -> Result<Self, String> {
        match secret.len() {
            SHORTEST.. => Ok(Self::new(DecodingKey::from_secret(secret.as_bytes()), Algorithm::HS256)),
            _ => Err(format!("is shorter than {SHORTEST} characters: it could be guessed")),
        }
    }

    /// Of a file with a public key.
    pub(super) fn pem(pem: &[u8]) -> Result<Self, String> {
        if memchr::memmem::find(pem, b"PRIVATE KEY").is_some() {
            return Err("holds a private key; only who makes tokens needs it. Give the public one".to_owned());
        }
        let rsa = || DecodingKey::from_rsa_pem(pem).map(|key| Self::new(key, Algorithm::RS256));
        let ed = || DecodingKey::from_ed_pem(pem).map(|key| Self::new(key, Algorithm::EdDSA));
        let ec = || DecodingKey::from_ec_pem(pem).map(|key| Self::new(key, Algorithm::ES256));
        let key = ed().or_else(|_| ec()).or_else(|_| rsa()).ok().filter(Self::is_whole);
        key.ok_or_else(|| "holds no public key of RSA, Ed25519 or P-256 as PEM".to_owned())
    }

    /// Of a set. One that is not for this, or not known here, is none.
    pub(super) fn jwk(jwk: &Jwk) -> Option<Self> {
        if matches!(&jwk.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature) {
            return None;
        }
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(_) => (Algorithm::EdDSA, KeyAlgorithm::EdDSA),
            // A secret that anybody can fetch is none.
            _ => return None,
        };
        let said = jwk.common.key_algorithm;
        let (algorithm, _) = Some(algorithm).filter(|(_, its)| said.is_none_or(|said| said == *its))?;
        Some(Self::new(DecodingKey::from_jwk(jwk).ok()?, algorithm)).filter(Self::is_whole)
    }

    /// Whether the bytes can be a key of its kind.
    fn is_whole(&self) -> bool {
        match (self.algorithm, self.decoding.kind()) {
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 32,
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 65,
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() > 256,
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => n.len() >= 256 && !e.is_empty(),
            _ => false,
        }
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

static PROVIDER: CryptoProvider = CryptoProvider {
    verifier_factory: |algorithm, key| Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() })),
    signer_factory: sign_nothing,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Tokens are checked here, and made elsewhere.
fn sign_nothing(_: &Algorithm, _: &jsonwebtoken::EncodingKey) -> errors::Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> Result<(), Error> {
        let verified = match (self.algorithm, self.key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, given)
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => {
                signature::UnparsedPublicKey::new(&signature::ED25519, key).verify(message, given)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(key)) => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key).verify(message, given)
            }
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(key)) => {
                signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key).verify(message, given)
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                signature::RsaPublicKeyComponents { n, e }.verify(
                    &signature::RSA_PKCS1_2048_8192_SHA256,
                    message,
                    given,
                )
            }
            _ => return Err(Error::new()),
        };
        verified.map_err(|_| Error::new())
    }
}
