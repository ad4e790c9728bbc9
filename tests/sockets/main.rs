//! What a client sees of the sockets: which protocols are spoken, who is cut off and when, and whether the end of an
//! answer is a FIN or a reset. The server and its clients are in `toys.rs`.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tls;
mod toys;

use std::io;
use std::sync::atomic::Ordering;

use h2::Reason;
use lastword::server::accept::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::toys::{Client, HTTP1, LONG, SHORT, Server, ask, limits, read, request, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

// ---- one port ----

#[tokio::test]
async fn three_versions_share_one_port() {
    let server = Server::start(limits()).await;
    for version in HTTP1 {
        let mut client = server.client(request(version, "/hello")).await;
        client.until(&format!("{version} 200")).await;
    }
    let mut client = server.http2().await;
    assert_eq!(read(&mut ask(&mut client, "/hello").await).await.unwrap(), "0");
}

#[tokio::test]
async fn the_first_bytes_may_come_one_by_one() {
    let server = Server::start(limits()).await;
    let mut http1 = server.client("").await;
    for byte in b"POST /refuses HTTP/1.1\r\nhost: here\r\n\r\n" {
        http1.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    http1.until("413").await;
    let mut http2 = server.client("").await;
    for byte in PREFACE.iter().chain(NO_SETTINGS) {
        http2.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    let mut frame = [0; 9];
    soon(http2.socket.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame[3], 4, "the server's first frame is SETTINGS");
}

#[tokio::test]
async fn a_kept_alive_connection_serves_again() {
    let server = Server::start(limits()).await;
    let mut client = server.client("").await;
    for _ in 0..3 {
        client.send(request("HTTP/1.1", "/whole")).await;
        client.until("end\n\r\n0\r\n\r\n").await;
        client.send(request("HTTP/1.1", "/hello")).await;
        client.until("200").await;
    }
}

#[tokio::test]
async fn a_head_of_12_kb_is_read_and_one_of_20_is_refused() {
    let server = Server::start(limits()).await;
    let head = |kb: usize| {
        let cookie = "c".repeat(kb * 1024);
        format!("GET /hello HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n")
    };
    let answer = server.client(head(12)).await.rest().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = server.client(head(20)).await.rest().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

// ---- clients that only hold a slot ----

#[tokio::test]
async fn who_says_nothing_sensible_is_gone_after_the_header_timeout() {
    let server = Server::start(Limits { header_timeout: SHORT, ..limits() }).await;
    let hello_of_tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let preface_and_settings = [PREFACE, NO_SETTINGS].concat();
    let bad: [(&str, &[u8]); 8] = [
        ("nothing", b""),
        ("half a preface", &PREFACE[..10]),
        ("a preface and nothing", PREFACE),
        ("a preface, settings and nothing", &preface_and_settings),
        ("half a head", b"GET /hello HTTP/1.1\r\nhos"),
        ("half a body's head", b"POST /refuses HTTP/1.1\r\ncontent-length: 5"),
        ("rubbish", b"\0\x01\x02\x03 what is this?\r\n\r\n"),
        ("TLS", hello_of_tls),
    ];
    for (what, bytes) in bad {
        let client = server.client(bytes).await;
        let end = timeout(LONG, client.rest()).await;
        assert!(end.is_ok(), "{what} keeps its slot");
    }
}

#[tokio::test]
async fn a_slow_head_is_gone_after_the_header_timeout() {
    let server = Server::start(Limits { header_timeout: SHORT, ..limits() }).await;
    let mut client = server.client("GET /hello HTTP/1.1\r\n").await;
    let slowly = async {
        // Each line arrives in time, the head as a whole does not.
        while client.socket.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    soon(slowly).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout_only() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: SHORT * 4, ..limits() };
    let server = Server::start(limits).await;
    let mut client = server.client(request("HTTP/1.1", "/hello")).await;
    client.until("200").await;
    let idle = std::time::Instant::now();
    client.rest().await.unwrap();
    assert!(idle.elapsed() > SHORT * 3, "{:?}", idle.elapsed());
}

#[tokio::test]
async fn at_the_limit_a_client_waits_for_a_slot() {
    let server = Server::start(Limits { max_connections: 1, ..limits() }).await;
    let mut first = server.client(request("HTTP/1.1", "/hello")).await;
    first.until("200").await;
    let mut second = server.client(request("HTTP/1.1", "/hello")).await;
    for _ in 0..20 {
        first.send(request("HTTP/1.1", "/hello")).await;
        first.until("200").await;
    }
    assert_eq!(server.toys.answered.load(Ordering::SeqCst), 21);
    drop(first);
    second.until("200").await;
}

// ---- how an answer ends ----

#[tokio::test]
async fn a_whole_answer_ends_with_a_fin() {
    let mut server = Server::start(limits()).await;
    for version in HTTP1 {
        let close = format!("GET /whole {version}\r\nhost: here\r\nconnection: close\r\n\r\n");
        let answer = server.client(close).await.rest().await.unwrap();
        assert!(answer.contains("end\n"), "{answer}");
        assert!(!server.next_dropped().await);
    }
    let mut client = server.http2().await;
    assert_eq!(read(&mut ask(&mut client, "/whole").await).await.unwrap(), "token\nend\n");
}

#[tokio::test]
async fn a_fin_comes_after_every_byte() {
    for version in HTTP1 {
        let mut server = Server::start(Limits { max_connections: 1, ..limits() }).await;
        server.toys.go_on.add_permits(1);
        // A client with room for little, that asks and then reads nothing.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut slow = Client::new(socket.connect(server.at).await.unwrap());
        let close = format!("GET /pages/3 {version}\r\nhost: here\r\nconnection: close\r\n\r\n");
        slow.send(close).await;
        assert!(!server.next_dropped().await);
        // It says that it will send no more, so the server closes; that it has is seen by the next in the line.
        slow.socket.shutdown().await.unwrap();
        server.client(request("HTTP/1.1", "/hello")).await.until("200").await;
        let answer = slow.rest().await.unwrap();
        assert!(answer.contains("end\n"), "{version}: {} bytes and no end", answer.len());
    }
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer() {
    let server = Server::start(limits()).await;
    let mut client = server.client("POST /refuses HTTP/1.1\r\nhost: here\r\ncontent-length: 4000000\r\n\r\n").await;
    client.send(vec![0; 4_000_000]).await;
    let answer = client.rest().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_gives_up_ends_with_a_reset() {
    let mut server = Server::start(limits()).await;
    for path in ["/gives-up", "/panics"] {
        for version in HTTP1 {
            let client = server.reader(version, path).await;
            server.toys.go_on.add_permits(1);
            assert!(client.sees_reset().await, "{version} {path}");
            assert!(!server.next_dropped().await);
        }
        let mut client = server.http2().await;
        let mut body = ask(&mut client, path).await;
        soon(body.data()).await.unwrap().unwrap();
        server.toys.go_on.add_permits(1);
        assert_eq!(read(&mut body).await.unwrap_err().reason(), Some(Reason::CANCEL), "{path}");
        assert!(!server.next_dropped().await);
        // The connection is as good as before.
        assert_eq!(read(&mut ask(&mut client, "/hello").await).await.unwrap(), "0");
    }
}

#[tokio::test]
async fn an_idle_connection_closes_with_a_fin_after_a_head_request() {
    let server = Server::start(limits()).await;
    let mut client = server.client("HEAD /open HTTP/1.1\r\nhost: here\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    server.stop.abort();
    assert_eq!(client.rest().await.unwrap(), "");
}

// ---- readers that stall, readers that leave ----

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let mut server = Server::start(Limits { write_timeout: SHORT, ..limits() }).await;
    for version in HTTP1 {
        let idle = server.reader(version, "/open").await;
        let stalled = server.reader(version, "/flood").await;
        assert!(server.next_dropped().await, "the reader has not left, it was cut off");
        assert!(stalled.sees_reset().await);
        drop(idle);
        assert!(!server.next_dropped().await, "a reader with nothing to read is not cut off");
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_cut_off() {
    let server = Server::start(Limits { write_timeout: SHORT * 4, ..limits() }).await;
    server.toys.go_on.add_permits(1);
    let mut slow = server.reader("HTTP/1.1", "/pages/512").await;
    for _ in 0..16 {
        tokio::time::sleep(SHORT / 2).await;
        let mut page = vec![0; 256 * 1024];
        soon(slow.socket.read_exact(&mut page)).await.unwrap();
    }
    slow.until("end\n").await;
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_cut_off_alone() {
    let mut server = Server::start(Limits { write_timeout: SHORT, ..limits() }).await;
    let mut client = server
        .http2_with(h2::client::Builder::new().initial_window_size(20_000).initial_connection_window_size(1 << 20))
        .await;
    let mut idle = ask(&mut client, "/pages/10").await;
    let mut pages = 0;
    while pages < 10 * 16 * 1024 {
        let data = soon(idle.data()).await.unwrap().unwrap();
        idle.flow_control().release_capacity(data.len()).unwrap();
        pages += data.len();
    }
    let mut reading = ask(&mut client, "/flood").await;
    let mut stalled = ask(&mut client, "/flood").await;
    let read_on = async {
        loop {
            let data = reading.data().await.unwrap().unwrap();
            reading.flow_control().release_capacity(data.len()).unwrap();
        }
    };
    tokio::select! {
        () = read_on => {}
        ended_by_us = server.next_dropped() => assert!(ended_by_us),
    }
    let reset = loop {
        if let Err(error) = soon(stalled.data()).await.unwrap() {
            break error;
        }
    };
    assert_eq!(reset.reason(), Some(Reason::CANCEL));
    let data = soon(reading.data()).await.unwrap().unwrap();
    assert!(!data.is_empty(), "the reader beside it reads on");
    server.toys.go_on.add_permits(1);
    assert!(read(&mut idle).await.unwrap().ends_with("end\n"), "it waited, but had nothing to say");
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_at_once() {
    let mut server = Server::start(limits()).await;
    for version in HTTP1 {
        let fin = server.reader(version, "/open").await;
        drop(fin);
        assert!(!server.next_dropped().await);
        let rst = server.reader(version, "/open").await;
        rst.socket.set_zero_linger().unwrap();
        drop(rst);
        assert!(!server.next_dropped().await);
    }
    let mut client = server.http2().await;
    let reset = ask(&mut client, "/open").await;
    drop(reset);
    assert!(!server.next_dropped().await);
    let body = ask(&mut client, "/open").await;
    drop((body, client));
    assert!(!server.next_dropped().await);
}

// ---- the end ----

#[tokio::test]
async fn a_drain_closes_what_is_idle_and_waits_for_answers() {
    let mut server = Server::start(limits()).await;
    let silent = server.client("").await;
    let mut idle = server.client(request("HTTP/1.1", "/hello")).await;
    idle.until("200").await;
    let mut http2 = server.http2().await;
    let mut body = ask(&mut http2, "/until").await;
    let running = server.reader("HTTP/1.1", "/until").await;

    server.stop.drain(LONG);
    silent.rest().await.unwrap();
    idle.rest().await.unwrap();
    let refused = async {
        while TcpStream::connect(server.at).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
    assert!(!server.accepting.is_finished());

    server.toys.go_on.add_permits(2);
    let rest = running.rest().await.unwrap();
    assert!(rest.ends_with("end\n\r\n0\r\n\r\n"), "{rest}");
    assert_eq!(read(&mut body).await.unwrap(), "token\nend\n");
    drop((body, http2));
    server.gone().await;
}

#[tokio::test]
async fn an_abort_resets_what_is_running() {
    let mut server = Server::start(limits()).await;
    let old = server.reader("HTTP/1.0", "/open").await;
    let new = server.reader("HTTP/1.1", "/open").await;
    let mut http2 = server.http2().await;
    let mut body = ask(&mut http2, "/open").await;
    soon(body.data()).await.unwrap().unwrap();
    server.stop.abort();
    assert!(old.sees_reset().await);
    assert!(new.sees_reset().await);
    let error = read(&mut body).await.unwrap_err();
    assert_eq!(error.get_io().map(io::Error::kind), Some(io::ErrorKind::ConnectionReset));
    for _ in 0..3 {
        assert!(server.next_dropped().await, "no reader has left");
    }
    server.gone().await;
}

#[tokio::test]
async fn a_request_knows_its_peer() {
    let server = Server::start(limits()).await;
    let client = server.client(request("HTTP/1.0", "/peer")).await;
    let peer = client.socket.local_addr().unwrap().to_string();
    let answer = client.rest().await.unwrap();
    assert!(answer.ends_with(&peer), "{answer}");
}
