//! Many streams at once, each read by one client, and how long each token was under way.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    client::{Client, EVENTS},
    upstream::now,
};

/// What each stream's tokens took from the upstream's write to the client's read, in µs.
pub(crate) async fn delays(to: SocketAddr, what: &str, body: &str, streams: usize) -> Vec<Vec<u64>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let reading = (0..streams).map(|_| {
        let (what, body, all) = (what.to_owned(), body.to_owned(), all.clone());
        tokio::spawn(async move {
            let mut own = Vec::new();
            Client::connect(to).await.ask(&what, EVENTS, &body, |sent| own.push(now().saturating_sub(sent))).await;
            all.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("it reads");
    }
    std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner))
}
