//! Many streams, many readers, and nobody who stays: the promise holds for each of them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::common::{Ending, TestGateway, soon, sse::Client};

const STREAMS: u64 = 200;
const READERS: u64 = 4;
const CUTS: usize = 10;
/// Twenty tokens, said five times.
const TEXT: &str = "水は\n急がない and \u{1f30a}\u{1f30a} yet\r\n it 着く. \"Word\" by\t\tword\\ é\u{301}́ \u{0} \u{2028}past\u{2029} every \u{1f469}\u{200d}\u{1f680} bend\r of\n\n it !";

#[tokio::test(flavor = "multi_thread")]
async fn eight_hundred_readers_that_come_and_go_miss_nothing() {
    let gateway = TestGateway::with("[server]\nretry_min = \"1ms\"\nretry_max = \"1ms\"\n").await;
    let at = gateway.at();
    let words = Arc::new(TEXT.repeat(5));
    let resumes = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for stream in 0..STREAMS {
        let options = json!({ "text": TEXT, "repeat": 5, "delay": "4ms", "jitter": "4ms", "seed": stream });
        let id = at.say(options, json!({})).await;
        for reader in 0..READERS {
            let (id, words, resumes) = (id.clone(), words.clone(), resumes.clone());
            readers.spawn(async move {
                let mut chance = fastrand::Rng::with_seed(stream * READERS + reader);
                let mut client = Client::default();
                for cut in 0..=CUTS {
                    let response = at.events(&id, &client).await;
                    if response.status == 204 {
                        break;
                    }
                    resumes.fetch_add(client.cursor.is_some().into(), Relaxed);
                    if cut < CUTS {
                        client.take(&soon(response.body.cut_after(chance.usize(..700))).await);
                    } else {
                        let (bytes, ending) = soon(response.body.rest()).await;
                        client.take(&bytes);
                        assert_eq!(ending, Ending::Clean);
                    }
                }
                client.check(&words).map_err(|what| format!("stream {stream}, reader {reader}: {what}"))
            });
        }
    }
    while let Some(reader) = readers.join_next().await {
        assert_eq!(reader.expect("it ran"), Ok(()));
    }
    at.metric_is("lastword_readers", 0).await;
    at.metric_is("lastword_streams_running", 0).await;
    let resumes = resumes.load(Relaxed);
    assert!(resumes > STREAMS * READERS, "they did come back: {resumes}");
    assert_eq!(at.metric("lastword_resumes_total").await, resumes);
}
