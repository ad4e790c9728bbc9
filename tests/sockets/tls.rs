//! The same over TLS: the handshake says which HTTP is spoken, and an answer that breaks off still is no whole one.

use std::sync::Arc;

use lastword::server::{config::Config, tls::Tls};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::toys::{SHORT, Server, ask, limits, read, request, soon};

/// Trusts everybody: it is the sockets that are tested.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn server() -> Server {
    let config = Config { tls_self_signed: true, ..Config::default() };
    Server::over(Tls::new(&config).unwrap(), limits()).await
}

async fn client(server: &Server, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = versions.with_safe_default_protocol_versions().unwrap();
    let mut config = versions.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let socket = TcpStream::connect(server.at).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap()
}

#[tokio::test]
async fn the_handshake_says_which_http_is_spoken() {
    let server = server().await;
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let mut old = client(&server, protocols).await;
        old.write_all(request("HTTP/1.0", "/hello").as_bytes()).await.unwrap();
        let mut text = String::new();
        soon(old.read_to_string(&mut text)).await.unwrap();
        assert!(text.starts_with("HTTP/1.0 200"), "{text}");
    }
    let new = client(&server, &[b"h2", b"http/1.1"]).await;
    let (mut new, connection) = soon(h2::client::handshake(new)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(read(&mut ask(&mut new, "/hello").await).await.unwrap(), "0");
}

#[tokio::test]
async fn an_answer_that_gives_up_is_no_clean_end_over_tls_either() {
    let server = server().await;
    for (path, clean) in [("/gives-up", false), ("/until", true)] {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let mut reader = client(&server, &[]).await;
            reader
                .write_all(request(version, path).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut read = vec![0; 4096];
            let mut text = String::new();
            while !text.contains("token") {
                let n = soon(reader.read(&mut read)).await.unwrap();
                text += &String::from_utf8_lossy(&read[..n]);
            }
            server.toys.go_on.add_permits(1);
            let ended = soon(reader.read_to_end(&mut read)).await;
            assert_eq!(ended.is_ok(), clean, "{version} {path}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_is_let_go_and_nobody_else() {
    let config = Config { tls_self_signed: true, ..Config::default() };
    let mut limits = limits();
    limits.header_timeout = SHORT;
    let server = Server::over(Tls::new(&config).unwrap(), limits).await;
    let silent = server.client("").await;
    let plain = server.client(request("HTTP/1.1", "/hello")).await;
    // Both are closed: the one at once, with an alert, the other when its time is over.
    let _ = plain.rest().await;
    let _ = silent.rest().await;
    let mut good = client(&server, &[]).await;
    good.write_all(request("HTTP/1.0", "/hello").as_bytes()).await.unwrap();
    let mut text = String::new();
    soon(good.read_to_string(&mut text)).await.unwrap();
    assert!(text.contains("200"), "{text}");
}
