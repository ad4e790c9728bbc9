//! Tokens are made here by ring and by hand; those of PyJWT, RS256 among them, are in `tests/clients/test_auth.py`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> Config {
    toml::from_str("issuer = \"https://id.example\"\naudience = \"lastword\"").expect("a section")
}

fn with_secret() -> Config {
    Config { secret: Some(Secret::new(SECRET)), ..config() }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "lastword", "sub": "u-1", "exp": now() + 60 })
}

/// Claims that differ in this.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().expect("an object").remove(name),
        value => claims.as_object_mut().expect("an object").insert(name.to_owned(), value),
    };
    claims
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign(message.as_bytes())))
}

fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

fn signed(claims: &Value) -> String {
    token(&json!({ "alg": "HS256", "typ": "JWT" }), claims, hs256(SECRET.as_bytes()))
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

/// The DER of a public Ed25519 key (RFC 8410, 4).
fn ed_der(key: &[u8]) -> Vec<u8> {
    [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], key].concat()
}

#[tokio::test]
async fn a_good_token_says_whose_it_is_and_what_is_not_right_is_refused() {
    let jwt = Jwt::new(&with_secret()).expect("right");
    assert_eq!(jwt.owner_of(&signed(&claims())).await.as_deref(), Ok("jwt:u-1"));
    assert_eq!(jwt.owner_of(&signed(&but("aud", json!(["a", "lastword"])))).await.as_deref(), Ok("jwt:u-1"));
    for wrong in [
        but("exp", json!(now() - 60)),
        but("exp", json!(null)),
        but("exp", json!((now() + 60).to_string())),
        but("exp", json!(-1)),
        but("nbf", json!(now() + 120)),
        but("nbf", json!("soon")),
        but("iss", json!("https://evil.example")),
        but("iss", json!(null)),
        but("aud", json!("another")),
        but("aud", json!(null)),
        but("aud", json!(["another"])),
        but("sub", json!(null)),
        but("sub", json!("")),
        but("sub", json!(7)),
        but("sub", json!("a\r\nb")),
        but("sub", json!("x".repeat(300))),
    ] {
        let refused = jwt.owner_of(&signed(&wrong)).await;
        assert!(
            matches!(&refused, Err(NoToken::Refused(why)) if why.starts_with("the token is not good")),
            "{wrong}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn the_key_says_the_algorithm_and_the_token_does_not() {
    let pair =
        Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key").as_ref())
            .expect("a key");
    let public = pem(&ed_der(pair.public_key().as_ref()));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key.pem");
    std::fs::write(&file, &public).expect("written");
    let asymmetric = Jwt::new(&Config { key_file: Some(file), ..config() }).expect("right");
    let symmetric = Jwt::new(&with_secret()).expect("right");

    let good = token(&json!({ "alg": "EdDSA" }), &claims(), |message| pair.sign(message).as_ref().to_vec());
    assert_eq!(asymmetric.owner_of(&good).await.as_deref(), Ok("jwt:u-1"));
    assert!(symmetric.owner_of(&good).await.is_err());
    for alg in ["none", "None", "HS256", "HS384", "RS256", "ES256", "EdDSA", "", "x"] {
        let header = json!({ "alg": alg });
        // Signed with what everybody knows: nothing, the public key as it is in the file, or its bytes.
        for signature in [
            token(&header, &claims(), |_| Vec::new()),
            token(&header, &claims(), hs256(public.as_bytes())),
            token(&header, &claims(), hs256(pair.public_key().as_ref())),
        ] {
            assert!(asymmetric.owner_of(&signature).await.is_err(), "{alg}");
            assert!(symmetric.owner_of(&signature).await.is_err(), "{alg}");
        }
    }
    // The right signature, of other bytes.
    let other = token(&json!({ "alg": "EdDSA" }), &but("sub", json!("admin")), |_| pair.sign(b"x").as_ref().to_vec());
    assert!(asymmetric.owner_of(&other).await.is_err());
}

#[tokio::test]
async fn rubbish_is_refused() {
    let jwt = Jwt::new(&with_secret()).expect("right");
    let good = signed(&claims());
    for cut in 0..good.len() {
        assert!(jwt.owner_of(&good[..cut]).await.is_err());
    }
    for rubbish in [
        "",
        ".",
        "..",
        "...",
        "eyJ.eyJ.eyJ",
        "a.b.c",
        "\u{e9}.\u{e9}.\u{e9}",
        &format!("{good}.x"),
        &format!("{good}="),
    ] {
        assert!(jwt.owner_of(rubbish).await.is_err(), "{rubbish}");
    }
    assert!(looks_like_one(&good) && !looks_like_one("lw_abc") && !looks_like_one("eyJ.x"));
}

#[test]
fn a_section_that_cannot_be_meant_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        Some(file)
    };
    let mut short = ed_der(&[7; 31]);
    short[1] -= 1;
    short[10] -= 1;
    for (section, key, words) in [
        (config(), "", "needs one of"),
        (Config { jwks_url: Some("https://a".into()), ..with_secret() }, "", "only one"),
        (Config { secret: Some(Secret::new("short")), ..config() }, "secret", "guessed"),
        (Config { key_file: Some("none.pem".into()), ..config() }, "key_file", "none.pem cannot be read"),
        (Config { key_file: file("a", "no PEM"), ..config() }, "key_file", "holds no public key"),
        (Config { key_file: file("b", &pem(&short)), ..config() }, "key_file", "holds no public key"),
        (Config { key_file: file("c", "-----BEGIN PRIVATE KEY-----"), ..config() }, "key_file", "Give the public one"),
        (Config { jwks_url: Some("nowhere".into()), ..config() }, "jwks_url", "is not a URL"),
    ] {
        let (named, what) = Jwt::new(&section).expect_err(words);
        assert_eq!(named, key);
        assert!(what.contains(words), "{what}");
    }
}

/// Serves each of these, one after the other, and the last for ever; says how often it was asked.
async fn serve(bodies: Vec<String>) -> (String, tokio::sync::watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys.json", listener.local_addr().expect("an address"));
    let (asked, times) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        for n in 0.. {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            let mut request = vec![0; 4096];
            let n_read = socket.read(&mut request).await.unwrap_or(0);
            assert!(request[..n_read].starts_with(b"GET /keys.json HTTP"), "{}", String::from_utf8_lossy(&request));
            let body = &bodies[n.min(bodies.len() - 1)];
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = socket.write_all((head + body).as_bytes()).await;
            asked.send_replace(n + 1);
        }
    });
    (url, times)
}

struct Signing(EcdsaKeyPair, &'static str);

impl Signing {
    fn new(kid: &'static str) -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).expect("a key"), kid)
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.1, "use": "sig", "alg": "ES256" })
    }

    fn token(&self, header: Value) -> String {
        token(&header, &claims(), |message| {
            self.0.sign(&SystemRandom::new(), message).expect("signed").as_ref().to_vec()
        })
    }

    fn signed(&self) -> String {
        self.token(json!({ "alg": "ES256", "kid": self.1 }))
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_when_a_new_one_is_named_but_not_for_everything_that_is_shown() {
    let (old, new) = (Signing::new("old"), Signing::new("new"));
    // What is not understood, what is no key for signing, and a secret, which no set may have, take nothing away.
    let noise = [
        json!({ "kty": "??" }),
        json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "kid": "oct" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "bad" }),
        json!(7),
    ];
    let set = |keys: &[&Signing]| {
        let keys: Vec<_> = noise.iter().cloned().chain(keys.iter().map(|key| key.jwk())).collect();
        json!({ "keys": keys }).to_string()
    };
    let (url, times) = serve(vec![set(&[&old]), set(&[&old, &new])]).await;
    let jwt = Jwt::new(&Config { jwks_url: Some(url), ..config() }).expect("right");
    let (first, second) = (old.signed(), old.signed());
    let (one, other) = tokio::join!(jwt.owner_of(&first), jwt.owner_of(&second));
    assert_eq!((one.as_deref(), other.as_deref()), (Ok("jwt:u-1"), Ok("jwt:u-1")));
    assert_eq!(
        jwt.owner_of(&old.token(json!({ "alg": "ES256" }))).await.as_deref(),
        Ok("jwt:u-1"),
        "there is only one"
    );
    assert_eq!(*times.borrow(), 1);

    let secret = token(&json!({ "alg": "HS256", "kid": "oct" }), &claims(), hs256(SECRET.as_bytes()));
    let confused = token(&json!({ "alg": "HS256", "kid": "old" }), &claims(), hs256(b"x"));
    for shown in [&secret, &confused, &new.signed(), &new.token(json!({ "alg": "ES256", "kid": "old" }))] {
        assert!(matches!(jwt.owner_of(shown).await, Err(NoToken::Refused(_))));
    }
    assert_eq!(*times.borrow(), 1, "not so soon again");
    let Keys::Set(keys) = &jwt.keys else { panic!("a set") };
    keys.forget_the_pause().await;
    assert_eq!(jwt.owner_of(&new.signed()).await.as_deref(), Ok("jwt:u-1"));
    assert_eq!(*times.borrow(), 2);
    assert!(jwt.owner_of(&new.token(json!({ "alg": "ES256" }))).await.is_err(), "it might be either");
}

#[tokio::test]
async fn where_no_key_can_be_fetched_nothing_is_known_and_what_was_fetched_stays() {
    let key = Signing::new("k");
    for nothing in ["", "{}", "{\"keys\":[]}", "<html>"] {
        let (url, _) = serve(vec![nothing.to_owned()]).await;
        let jwt = Jwt::new(&Config { jwks_url: Some(url), ..config() }).expect("right");
        assert_eq!(jwt.owner_of(&key.signed()).await, Err(NoToken::Unknown), "{nothing}");
    }
    let (url, times) = serve(vec![json!({ "keys": [key.jwk()] }).to_string(), String::new()]).await;
    let jwt = Jwt::new(&Config { jwks_url: Some(url), ..config() }).expect("right");
    assert!(jwt.owner_of(&key.signed()).await.is_ok());
    let Keys::Set(keys) = &jwt.keys else { panic!("a set") };
    keys.forget_the_pause().await;
    assert!(jwt.owner_of(&Signing::new("other").signed()).await.is_err());
    assert_eq!(*times.borrow(), 2);
    assert!(jwt.owner_of(&key.signed()).await.is_ok());
}
