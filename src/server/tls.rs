//! TLS: the certificate, which is read again when its files change, and the handshake, which says whether HTTP/2 is spoken.
//!
//! Browsers speak HTTP/2 only over TLS, and only HTTP/2 lets them have more than six connections to one origin.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use super::{
    config,
    io::{Io, Version},
};
use crate::stamp::Stamp;

/// How often the files are looked at, at most. A handshake costs a thousand times more than a look.
const LOOK: Duration = Duration::from_secs(1);

/// What TLS clients are told, in this order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Makes TLS of a socket.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// As the configuration says; nothing if it says nothing of TLS.
    ///
    /// # Errors
    /// When the files cannot be read, or are no certificate and its key.
    pub fn new(server: &config::Config) -> Result<Option<Self>, String> {
        let certificate = match (&server.tls_cert, &server.tls_key) {
            (Some(chain), Some(key)) => Certificate::read(chain.clone(), key.clone())?,
            _ if server.tls_self_signed => Certificate::own(server.listen.ip().to_string())?,
            _ => return Ok(None),
        };
        let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let versions = versions.map_err(|error| error.to_string())?;
        let mut config = versions.with_no_client_auth().with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Some(Self(TlsAcceptor::from(Arc::new(config)))))
    }

    /// Shakes hands. A client that names no protocol speaks HTTP/1.
    pub(super) async fn accept(&self, io: Io) -> io::Result<(TlsStream<Io>, Version)> {
        let stream = self.0.accept(io).await?;
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::Http2,
            _ => Version::Http1,
        };
        Ok((stream, version))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate that is shown, and where it comes from.
#[derive(Debug)]
struct Certificate {
    files: Option<Files>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct State {
    certified: Arc<CertifiedKey>,
    looked: Instant,
    stamps: [Option<Stamp>; 2],
}

impl Certificate {
    fn read(chain: PathBuf, key: PathBuf) -> Result<Self, String> {
        let files = Files { chain, key };
        // Before they are read: what changes meanwhile is read again.
        let stamps = files.stamps();
        let certified = files.read()?;
        let state = Mutex::new(State { certified: Arc::new(certified), looked: Instant::now(), stamps });
        Ok(Self { files: Some(files), state })
    }

    /// One that nobody trusts: for trying things out.
    fn own(address: String) -> Result<Self, String> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), address];
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let certified = certified(vec![made.cert.der().clone()], key).map_err(|error| error.to_string())?;
        let state = State { certified: Arc::new(certified), looked: Instant::now(), stamps: [None, None] };
        Ok(Self { files: None, state: Mutex::new(state) })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut state = self.lock();
        if let Some(files) = &self.files
            && state.looked.elapsed() >= LOOK
        {
            state.looked = Instant::now();
            let stamps = files.stamps();
            if stamps != state.stamps {
                match files.read() {
                    Ok(certified) => {
                        info!("the certificate was changed, and is read again");
                        state.certified = Arc::new(certified);
                        state.stamps = stamps;
                    }
                    // Half of it may be written; it is looked at again. The one before it stays.
                    Err(error) => {
                        warn!(error, "the certificate was changed and cannot be used: the one before it stays")
                    }
                }
            }
        }
        state.certified.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl Files {
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.chain, &self.key].map(|file| Stamp::of(file))
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let shown = |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let chain = CertificateDer::pem_file_iter(&self.chain).map_err(|error| shown(&self.chain, &error))?;
        let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|error| shown(&self.chain, &error))?;
        if chain.is_empty() {
            return Err(shown(&self.chain, &"there is no certificate in it; it must be PEM, the server's own first"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| shown(&self.key, &format!("{error}; it must hold a private key as PEM")))?;
        certified(chain, key).map_err(|error| shown(&self.key, &error))
    }
}

/// A certificate and its key, if they are one another's.
fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &provider())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with a certificate and its key.
    fn written() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { chain: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        write(&files);
        (folder, files)
    }

    fn write(files: &Files) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(&files.chain, made.cert.pem()).expect("written");
        fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    }

    fn look_again(certificate: &Certificate) -> Arc<CertifiedKey> {
        certificate.lock().looked = Instant::now().checked_sub(LOOK).expect("a running machine");
        certificate.current()
    }

    #[test]
    fn files_that_are_no_certificate_and_its_key_are_named() {
        let (_folder, files) = written();
        assert!(files.read().is_ok());
        let (_other_folder, other) = written();
        for (files, words) in [
            (Files { chain: "nowhere.pem".into(), key: files.key.clone() }, "nowhere.pem"),
            (Files { chain: files.chain.clone(), key: "nowhere.pem".into() }, "nowhere.pem"),
            (Files { chain: files.key.clone(), key: files.key.clone() }, "no certificate in it"),
            (Files { chain: files.chain.clone(), key: files.chain.clone() }, "private key"),
            (Files { chain: files.chain.clone(), key: other.key.clone() }, "key.pem"),
        ] {
            let error = files.read().expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_changed_certificate_is_read_again_and_a_broken_one_changes_nothing() {
        let (_folder, files) = written();
        let certificate = Certificate::read(files.chain.clone(), files.key.clone()).expect("a certificate");
        let shown = |certified: &CertifiedKey| certified.cert[0].clone();
        let first = shown(&certificate.current());
        assert_eq!(shown(&look_again(&certificate)), first);
        write(&files);
        assert_eq!(shown(&certificate.current()), first, "it was looked at a moment ago");
        let second = shown(&look_again(&certificate));
        assert_ne!(second, first);
        fs::write(&files.key, "half a k").expect("written");
        assert_eq!(shown(&look_again(&certificate)), second);
        write(&files);
        assert_ne!(shown(&look_again(&certificate)), second);
    }
}
